"""Whole models of both families: what is refused, other sizes and ends, drop path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mambasdk
from mambasdk.errors import InvalidArgumentError, MambaSDKError
from mambasdk_vision.adaptation import adapted

FAMILIES = ["vim", "vmamba", "vssd", "msvmamba"]
Make = Callable[..., Any]


def images(family: str, batch: int = 2, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(batch))


def close(found: Tensor, expected: Tensor) -> None:
    scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_images_are_named_with_a_way_out(family: str, make_tiny: Make) -> None:
    model = make_tiny(family)
    with pytest.raises(MambaSDKError, match=r"the image is grey: expected \(B, 3, .*got \(1, 1, 32, 32\).*expand"):
        model(torch.zeros(1, 1, 32, 32))
    with pytest.raises(MambaSDKError, match="colour with alpha"):
        model(torch.zeros(1, 4, 32, 32))
    with pytest.raises(MambaSDKError, match=r"bad image: expected \(B, 3"):
        model(torch.zeros(3, 32, 32))
    with pytest.raises(MambaSDKError, match="the image holds integers"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_another_size_says_how_to_interpolate(make_tiny: Make) -> None:
    with pytest.raises(MambaSDKError, match=r"adapted\(model, img_size=\(40, 24\)\)"):
        make_tiny("vim")(torch.zeros(1, 3, 40, 24))
    with pytest.raises(MambaSDKError, match=r"adapted\(model, imgsize=\(H, W\)\)"):
        make_tiny("vmamba", posembed=True, imgsize=32)(torch.zeros(1, 3, 40, 24))
    with pytest.raises(MambaSDKError, match="smaller than one patch: expected H and W of 4 or more"):
        make_tiny("vmamba", patchembed_version="v1")(torch.zeros(1, 3, 3, 9))
    with pytest.raises(MambaSDKError, match="smaller than one patch"):
        make_tiny("vim", img_size=7)


@pytest.mark.parametrize(
    ("family", "setting"),
    [
        ("vim", {"class_token": "last"}),
        ("vim", {"depth": 0}),
        ("vim", {"img_size": [1, 2, 3]}),
        ("vim", {"task": "segmentation", "out_layers": [0, 1]}),
        ("vim", {"rope": True, "embed_dim": 18}),
        ("vmamba", {"forward_type": "v06"}),
        ("vmamba", {"forward_type": "v05_noz_noz"}),
        ("vmamba", {"depths": [2, 0]}),
        ("vmamba", {"dims": [8, 16]}),
        ("vmamba", {"out_indices": [4]}),
        ("vmamba", {"ssm_init": "v3"}),
        ("vmamba", {"mlp_act_layer": "tanhh"}),
    ],
    ids=str,
)
def test_bad_settings_are_refused(family: str, setting: dict[str, Any], make_tiny: Make) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        make_tiny(family, **setting)


@pytest.mark.parametrize("form", [{"rope": True}, {"class_token": "none", "pool": "max"}], ids=str)
def test_forms_that_none_of_the_published_has_run_natively(
    form: dict[str, Any], make_tiny: Make, tmp_path: Path
) -> None:
    model = make_tiny("vim", **form)
    mambasdk.save_package(model, tmp_path / "package", engine="native")
    inputs = model.example_inputs()
    with torch.no_grad():
        expected = model.native_outputs(inputs)
    session = mambasdk.runtime.load_package(tmp_path / "package").session()
    found = session.run({name: tensor.numpy() for name, tensor in inputs.items()}, list(expected))
    for name, tensor in expected.items():
        close(torch.from_numpy(found[name]), tensor)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapted_keeps_the_encoder_and_draws_other_ends(family: str, make_tiny: Make) -> None:
    model = make_tiny(family)
    other: Any = adapted(model, num_classes=3)
    with torch.no_grad():
        close(other.features(images(family)), model.features(images(family)))
        assert other(images(family)).shape == (2, 3)
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        adapted(model, **({"dims": 16} if family.endswith("mamba") else {"embed_dim": 32}))
    same: Any = adapted(model)
    with torch.no_grad():
        assert torch.equal(same(images(family)), model(images(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_drop_path_changes_training_alone(family: str, make_tiny: Make) -> None:
    plain, dropping = make_tiny(family), make_tiny(family, drop_path_rate=0.6)
    with torch.no_grad():
        assert torch.equal(plain(images(family)), dropping(images(family)))
        torch.manual_seed(0)
        assert not torch.equal(plain.train()(images(family)), dropping.train()(images(family)))

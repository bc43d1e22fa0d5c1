"""Whole models of both families: one compiled graph, exported with free dims, the same results from every engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

import mambasdk
from mambasdk.errors import InvalidArgumentError, LoweringError, MambaSDKError
from mambasdk_vision.adaptation import adapted

FAMILIES = ["vim", "vmamba"]
Make = Callable[..., Any]

# What changes the graph of a family: its other ends, tokens, scans and stems.
FORMS: dict[str, list[dict[str, Any]]] = {
    "vim": [
        {},
        {"class_token": "first"},
        {"class_token": "none"},
        {"class_token": "none", "pool": "last"},
        {"img_size": [33, 50], "stride": 4},
        {"img_size": 8},
        {"rms_norm": False, "divide_out": False, "init_layer_scale": 0.3},
    ],
    "vmamba": [
        {},
        {"forward_type": "v0", "patchembed_version": "v1", "downsample_version": "v1", "ssm_d_state": 4},
        {"forward_type": "v052dc_oact", "posembed": True, "imgsize": [48, 40]},
        {"out_indices": [0, 1, 2, 3]},
    ],
}


def images(family: str, batch: int = 2, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(batch))


def close(found: Tensor, expected: Tensor) -> None:
    scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_model_is_one_graph_with_the_same_results(family: str, make_tiny: Make) -> None:
    model = make_tiny(family)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            close(compiled(images(family)), model(images(family)))
    x = images(family)
    gradients = []
    for run in (compiled, model):
        model.zero_grad()
        run(x).square().sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, expected in gradients[1].items():
        close(gradients[0][name], expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_exported_model_takes_any_batch_and_length(family: str, make_tiny: Make) -> None:
    """The batch for vim, whose positions fix the size of the image; any size for vmamba."""
    model = make_tiny(family)
    dims: dict[int, Any] = {0: Dim.DYNAMIC}
    sizes = [(32, 32)]
    if family == "vmamba":
        dims.update({2: Dim.DYNAMIC, 3: Dim.DYNAMIC})
        sizes = [(64, 96), (51, 67), (224, 40)]
    with torch.no_grad():
        program = torch.export.export(model, (images(family, 2, (sizes[0])),), dynamic_shapes={"image": dims})
        for size in sizes:
            for batch in (1, 2, 5):
                close(program.module()(images(family, batch, size)), model(images(family, batch, size)))


@pytest.mark.parametrize("family", ["vim"])
@pytest.mark.parametrize("form", FORMS["vim"], ids=str)
def test_native_engine_equals_pytorch(family: str, form: dict[str, Any], make_tiny: Make, tmp_path: Path) -> None:
    model = make_tiny(family, **form)
    manifest = mambasdk.save_package(model, tmp_path / "package")
    assert manifest.engine["name"] == "native"
    report = mambasdk.verify(tmp_path / "package")
    assert report.passed
    assert set(report.errors["native"]) == {"logits", "features"}
    session = mambasdk._core.load_package(tmp_path / "package").session()
    for batch in (1, 3):
        image = images(family, batch, model.config.image_size)
        with torch.no_grad():
            expected = model(image)
        close(torch.from_numpy(session.run({"image": image.numpy()}, outputs=["logits"])["logits"]), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_aoti_engine_equals_pytorch(family: str, make_tiny: Make, tmp_path: Path) -> None:
    """Classifiers and dense features; for vmamba sizes down to one pixel, which the graph was not traced for."""
    dense = {"vim": {"task": "segmentation", "out_layers": [0, 1, 2, 3], "depth": 4}, "vmamba": {"out_indices": [0, 3]}}
    for index, form in enumerate([{}, dense[family]]):
        model = make_tiny(family, **form)
        package = tmp_path / str(index)
        mambasdk.save_package(model, package, engine="aoti")
        assert mambasdk.verify(package).passed
        session = mambasdk._core.load_package(package).session()
        sizes = [(32, 32)] if family == "vim" else [(224, 160), (51, 67), (32, 32), (5, 1)]
        for size in sizes:
            for batch in (1, 3):
                image = images(family, batch, size)
                with torch.no_grad():
                    expected = model.native_outputs({"image": image})
                found = session.run({"image": image.numpy()}, outputs=list(expected))
                for name, tensor in expected.items():
                    close(torch.from_numpy(found[name]), tensor)


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_rows_do_not_meet_and_none_is_fine(family: str, make_tiny: Make) -> None:
    model = make_tiny(family)
    with torch.no_grad():
        whole = model(images(family, 3))
        for row in range(3):
            close(model(images(family, 3)[row : row + 1]), whole[row : row + 1])
        assert model(images(family, 3)[:0]).shape == (0, 10)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_model_follows_the_float32_one(family: str, make_tiny: Make) -> None:
    model = make_tiny(family)
    with torch.no_grad():
        expected = model(images(family))
        found = model.to(torch.bfloat16)(images(family).bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() / expected.norm() < 0.05  # 8 bits of mantissa, some dozen roundings


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


def test_what_the_native_engine_lacks_is_said(make_tiny: Make, tmp_path: Path) -> None:
    for form in ({"rope": True}, {"class_token": "none", "pool": "max"}):
        with pytest.raises(LoweringError, match='engine="aoti"'):
            mambasdk.save_package(make_tiny("vim", **form), tmp_path / "package", engine="native")


@pytest.mark.parametrize("family", FAMILIES)
def test_adapted_keeps_the_encoder_and_draws_other_ends(family: str, make_tiny: Make) -> None:
    model = make_tiny(family)
    other: Any = adapted(model, num_classes=3)
    with torch.no_grad():
        close(other.features(images(family)), model.features(images(family)))
        assert other(images(family)).shape == (2, 3)
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        adapted(model, **({"embed_dim": 32} if family == "vim" else {"dims": 16}))
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

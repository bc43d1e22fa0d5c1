"""Swin-UMamba and its D variant against their definition in loops and float64; weights to begin with, files, plans."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from medical_training import train_in_mixed_precision
from swin_umamba_definition import convolutions_by_definition, scans_by_definition
from torch import Tensor

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.plugins import get_host
from mambasdk.testing.golden import scatter
from mambasdk_medical.families.swin_umamba import begin_from_imagenet
from mambasdk_medical.plans import NetworkPlan

DECODERS = ["convolutions", "scans"]


def tiny(**overrides: Any) -> Any:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("swin_umamba", **{**get_host().family("swin_umamba").tiny, **overrides})
    return scatter(model, 2).eval()


def upstream_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As upstream's files have them: the merging of patches stands in a list of its own."""
    return {
        name.replace(".layers.", ".downsamples.").replace(".downsample.", ".") if ".downsample." in name else name: t
        for name, t in state.items()
    }


@pytest.mark.parametrize(
    ("decoder", "definition", "sizes"),
    [
        ("convolutions", convolutions_by_definition, [(16, 32), (8, 16), (4, 8)]),
        ("scans", scans_by_definition, [(16, 32), (4, 8), (2, 4)]),
    ],
    ids=DECODERS,
)
@torch.no_grad()
def test_every_output_equals_its_definition(decoder: str, definition: Any, sizes: list[tuple[int, int]]) -> None:
    model = tiny(decoder=decoder, dims=[4, 6, 8], depths=[1, 2, 1], in_channels=2, decoder_depth=1).double()
    image = torch.randn(2, 2, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = [torch.stack(parts) for parts in zip(*(definition(model, one) for one in image), strict=True)]
    found = model.training_outputs(image)
    assert [tuple(one.shape[2:]) for one in found] == sizes
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    assert torch.equal(model(image), found[0])
    single = model.float()(image.float()).double()
    torch.testing.assert_close(single, expected[0], atol=2e-4, rtol=2e-4)


# ---- sizes, supervision, plans ----


def test_the_encoder_has_the_published_size_of_vmambas() -> None:
    """arXiv 2401.10166 counts its first version's tiny model with an end of one norm and 1,000 classes."""
    model = mambasdk.create_model("swin-umamba-d", in_channels=3, device="meta")
    found = sum(parameter.numel() for parameter in model.get_submodule("vssm_encoder").parameters())
    assert found == 22_893_448 - (2 * 768 + 768 * 1000 + 1000)


@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_supervision_and_plans(decoder: str) -> None:
    plan = NetworkPlan(patch_size=(50, 64), in_channels=3, num_classes=4, deep_supervision=False)
    kind = type(tiny().config)
    overrides = kind.for_plan(plan)
    assert overrides == {"patch_size": (64, 64), "in_channels": 3, "num_classes": 4, "deep_supervision": False}
    model: Any = mambasdk.create_model(
        "swin-umamba-mini", **{**overrides, "decoder": decoder, "dims": [4, 6, 8, 10], "depths": [1, 1, 1, 1]}
    ).eval()
    image = model.example_inputs()["image"]
    assert image.shape == (2, 3, 64, 64)
    assert model.patch_divisor == (32, 32)
    (only,) = model.training_outputs(image)
    assert torch.equal(only, model(image))
    assert only.shape == (2, 4, 64, 64)


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_parameter_has_a_gradient_under_supervision(decoder: str) -> None:
    model = tiny(decoder=decoder).train()
    sum(one.square().mean() for one in model.training_outputs(model.example_inputs()["image"])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("decoder", DECODERS)
def test_two_hundred_steps_of_mixed_precision_are_finite(decoder: str, dtype: torch.dtype) -> None:
    train_in_mixed_precision(tiny(decoder=decoder, drop_path_rate=0.1), dtype)


def test_paths_drop_most_in_the_middle() -> None:
    model = tiny(decoder="scans", dims=[4, 6, 8], depths=[1, 1, 1], drop_path_rate=0.3)
    rates = [block.drop_path.rate for stage in model.decoder.stages[:-1] for block in stage.blocks]
    assert rates == pytest.approx([0.3, 0.2, 0.1, 0.0])
    encoder = [block.drop_path.rate for stage in model.vssm_encoder.layers for block in stage.blocks]
    assert encoder == pytest.approx([0.0, 0.15, 0.3])


# ---- weights ----


@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_upstreams_files_load_without_a_configuration(decoder: str) -> None:
    model = tiny(decoder=decoder, dims=[4, 6, 8], depths=[1, 2, 1], in_channels=2, num_classes=5)
    image = torch.randn(1, 2, 32, 16)
    state = model.state_dict()
    theirs = upstream_names(state)
    assert "vssm_encoder.downsamples.1.reduction.weight" in theirs
    for file in (state, theirs, {"network_weights": theirs, "current_epoch": 9}):
        found: Any = mambasdk.import_checkpoint("swin_umamba", {"patch_size": [32, 16]}, file).eval()
        assert torch.equal(found(image), model(image))
        assert list(found.config.depths) == [1, 2, 1]
    with pytest.raises(CheckpointError, match="unknown arguments: feat_size"):
        mambasdk.import_checkpoint("swin_umamba", {"feat_size": [48]}, theirs)
    with pytest.raises(CheckpointError, match="no Swin-UMamba: "):
        mambasdk.import_checkpoint("swin_umamba", {}, {"head.weight": torch.zeros(2, 2)})


@torch.no_grad()
def test_begins_from_the_weights_of_a_classifier() -> None:
    settings = {"dims": [4, 6, 8], "depths": [1, 2, 1], "ssm_d_state": 4, "num_classes": 7}
    torch.manual_seed(3)
    vmamba: Any = mambasdk.create_model("vmamba-tiny-vanilla", **settings)
    image = torch.randn(1, 3, 32, 32)
    stages = vmamba.eval().stages(image)
    colour = tiny(decoder="scans", dims=[4, 6, 8], depths=[1, 2, 1], in_channels=3)
    decoder = {name: t.clone() for name, t in colour.state_dict().items() if name.startswith("decoder.")}
    set_names = begin_from_imagenet(colour, vmamba.state_dict())
    assert set(set_names) == {name for name in colour.state_dict() if name.startswith("vssm_encoder.")}
    for ours, theirs in zip(colour.vssm_encoder(image), stages, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(torch.equal(tensor, colour.state_dict()[name]) for name, tensor in decoder.items())
    # Upstream's older names; a stem of its own keeps what it has.
    older = {
        name.replace(".norm.", ".ln_1.").replace(".op.", ".self_attention.") if ".blocks." in name else name: tensor
        for name, tensor in vmamba.state_dict().items()
    }
    older = {
        name.replace("patch_embed.0.", "patch_embed.proj.").replace("patch_embed.2.", "patch_embed.norm."): tensor
        for name, tensor in older.items()
    }
    grey = tiny(dims=[4, 6, 8], depths=[1, 2, 1])
    stem = grey.vssm_encoder.patch_embed.norm.weight.clone()
    set_names = begin_from_imagenet(grey, {"model": older})
    assert set(set_names) == {name for name in grey.state_dict() if name.startswith("vssm_encoder.layers.")}
    assert torch.equal(grey.vssm_encoder.patch_embed.norm.weight, stem)
    ours, theirs = grey.state_dict(), vmamba.state_dict()
    assert torch.equal(ours["vssm_encoder.layers.1.blocks.1.self_attention.Ds"], theirs["layers.1.blocks.1.op.Ds"])
    with pytest.raises(CheckpointError, match="of the model"):
        begin_from_imagenet(tiny(dims=[4, 6, 10], depths=[1, 2, 1]), older)


# ---- what is refused ----


@pytest.mark.parametrize(
    "setting",
    [
        {"patch_size": [16, 20]},
        {"patch_size": [16, 16, 16]},
        {"dims": [6], "depths": [1]},
        {"depths": [1]},
        {"decoder": "attention"},
        {"stem_width": 0},
        {"decoder_depth": 0},
        {"drop_path_rate": 1.0},
    ],
    ids=str,
)
def test_bad_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        tiny(**setting)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("shape", [(1, 1, 12, 16), (1, 2, 16, 16), (1, 16, 16), (1, 1, 16, 16, 16)])
def test_other_images_are_refused(decoder: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"SwinUMamba.*: .*expected"):
        tiny(decoder=decoder)(torch.zeros(shape))

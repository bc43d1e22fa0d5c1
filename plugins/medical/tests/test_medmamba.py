"""MedMamba against its definition in loops and float64; any size, files, training from folders, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from medical_training import train_in_mixed_precision
from PIL import Image
from scan_definition import embedded, merged_patches, normed, part_of, ss2d
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.models import identity
from mambasdk.plugins import get_host
from mambasdk.testing.golden import scatter
from mambasdk_medical.families.medmamba import MedMambaClassifier, SSConvSSM, shuffled


def tiny(**overrides: Any) -> Any:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("medmamba", **{**get_host().family("medmamba").tiny, **overrides})
    return with_statistics(scatter(model, 2)).eval()


def with_statistics(model: Any) -> Any:
    """Batch norms with means and variances away from 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return model


def weights_of(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


# ---- the definition ----


def batch_normed(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """By its statistics, x (C, H, W)."""
    scale = w["weight"] / (w["running_var"] + 1e-5).sqrt()
    return (x - w["running_mean"][:, None, None]) * scale[:, None, None] + w["bias"][:, None, None]


def block_by_definition(w: dict[str, Tensor], v: Tensor) -> Tensor:
    """One map v (H, W, C)."""
    part = part_of(w)
    half = v.shape[-1] // 2

    def conv(index: int, x: Tensor) -> Tensor:
        own = part(f"conv33conv33conv11.{index}.")
        return functional.conv2d(x[None], own["weight"], own["bias"], padding=own["weight"].shape[-1] // 2)[0]

    x = batch_normed(part("conv33conv33conv11.0."), v[..., :half].permute(2, 0, 1))
    x = batch_normed(part("conv33conv33conv11.2."), conv(1, x)).clamp(min=0)
    x = batch_normed(part("conv33conv33conv11.5."), conv(4, x)).clamp(min=0)
    near = conv(7, x).clamp(min=0).permute(1, 2, 0)
    far = ss2d(part("self_attention."), normed(v[..., half:], w["ln_1.weight"], w["ln_1.bias"]))
    both = torch.empty_like(v)
    for channel in range(half):
        both[..., 2 * channel] = near[..., channel]
        both[..., 2 * channel + 1] = far[..., channel]
    return v + both


def network_by_definition(model: MedMambaClassifier, image: Tensor) -> Tensor:
    """Logits of one image (C, H, W)."""
    part = part_of(weights_of(model))
    v = embedded(part("patch_embed."), image)
    depths = model.config.depths
    for stage, depth in enumerate(depths):
        for block in range(depth):
            v = block_by_definition(part(f"layers.{stage}.blocks.{block}."), v)
        if stage + 1 < len(depths):
            v = merged_patches(part(f"layers.{stage}.downsample."), v)
    return v.mean(dim=(0, 1)) @ model.head.weight.T + model.head.bias


@torch.no_grad()
def test_network_equals_its_definition() -> None:
    model = tiny(depths=[1, 2, 1], dims=[4, 6, 10]).double()
    image = torch.randn(2, 3, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([network_by_definition(model, one) for one in image])
    torch.testing.assert_close(model(image), expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(model.float()(image.float()).double(), expected, atol=1e-4, rtol=1e-4)


# ---- properties ----


@torch.no_grad()
def test_shuffling_is_that_of_two_groups() -> None:
    first, second = torch.arange(3.0), torch.arange(3.0) + 10
    assert shuffled(first, second).tolist() == [0, 10, 1, 11, 2, 12]
    x = torch.randn(2, 4, 5, 6)
    groups = torch.cat([x, -x], dim=-1).unflatten(-1, (2, 6)).transpose(-1, -2).flatten(-2)
    assert torch.equal(shuffled(x, -x), groups)


@torch.no_grad()
def test_the_convolutions_see_their_half_nearby_and_the_scan_the_other_everywhere() -> None:
    torch.manual_seed(0)
    block = with_statistics(scatter(SSConvSSM(8, 4), 1)).double().eval()
    x = torch.randn(1, 9, 9, 8, dtype=torch.float64)
    before = block(x)
    for half, seen in ((slice(0, 4), slice(0, None, 2)), (slice(4, 8), slice(1, None, 2))):
        moved = x.clone()
        moved[0, 4, 4, half.start] += 1.0
        change = (block(moved) - moved - (before - x))[0].abs()
        other = slice(1 - seen.start, None, 2)
        assert float(change[..., other].max()) == pytest.approx(0, abs=1e-12)
        rows = change[..., seen].amax(dim=-1) > 1e-12
        if half.start == 0:
            inside = rows[2:7, 2:7].clone()
            rows[2:7, 2:7] = False
            assert inside.sum() > 20, "two 3x3 convolutions see 5x5 pixels, less what a ReLU cuts off"
            assert not bool(rows.any())
        else:
            assert bool(rows.all())


@torch.no_grad()
def test_any_size_of_a_patch_or_more() -> None:
    model, maps = tiny(), tiny(out_indices=[0, 1, 2, 3])
    assert maps.map_channels == (8, 16, 32, 64)
    assert maps.map_strides == (4, 8, 16, 32)
    for height, width in ((4, 4), (17, 90), (33, 64)):
        image = torch.randn(2, 3, height, width)
        assert model(image).shape == (2, 10)
        sizes = [(-(-(height // 4) // 2**level), -(-(width // 4) // 2**level)) for level in range(4)]
        assert [tuple(one.shape[2:]) for one in maps(image)] == sizes
    with pytest.raises(ShapeError, match="the image is smaller than one patch"):
        model(torch.randn(1, 3, 3, 8))
    with pytest.raises(ShapeError, match="the image is grey"):
        model(torch.randn(1, 1, 8, 8))
    with pytest.raises(ShapeError, match=r"SSConvSSM: bad x: expected \(B, H, W, 8\)"):
        SSConvSSM(8, 4)(torch.zeros(1, 4, 6))


@torch.no_grad()
def test_other_classes_keep_the_encoder() -> None:
    model = tiny()
    other = model.with_classes(3).eval()
    image = torch.randn(1, 3, 32, 32)
    assert other(image).shape == (1, 3)
    assert torch.equal(other.features(image), model.features(image))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_two_hundred_steps_of_mixed_precision_are_finite(dtype: torch.dtype) -> None:
    train_in_mixed_precision(tiny(depths=[1, 1], drop_path_rate=0.1), dtype)


# ---- training from folders ----


def test_folders_of_classes_train_as_for_other_encoders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = np.random.default_rng(0)
    for label, colour in (("lesion", (255, 0, 0)), ("none", (0, 255, 0))):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for index in range(12):
            pixels = chance.integers(0, 90, (20, 26, 3), dtype=np.uint8)
            top, left = chance.integers(0, 6), chance.integers(0, 10)
            pixels[top : top + 14, left : left + 14] = colour
            Image.fromarray(pixels).save(folder / f"{index}.png")
    package = tmp_path / "package"
    sizes = [part for setting in ("dims=16", "depths=[1,1]", "d_state=4") for part in ("--set", setting)]
    run = ["--size", "20", "24", "--steps", "40", "--batch", "8", "--lr", "3e-3", "--held-out", "0.25"]
    data = str(tmp_path / "data")
    code = main(["train", "medmamba", "--data", data, "--out", str(package), *run, *sizes, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    report = json.loads(captured.out)
    assert report["classes"] == ["lesion", "none"]
    assert report["accuracy"] == 1.0
    assert report["engine"] == "native"
    files = [tmp_path / "data" / label / "0.png" for label in ("none", "lesion")]
    assert main(["predict", str(package), *map(str, files), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["labels"][0]["label"] for result in results] == ["none", "lesion"]
    assert identity(mambasdk.load(package)).config["imgsize"] == (20, 24)


# ---- files ----


@torch.no_grad()
def test_files_of_classifiers_and_backbones_load_without_a_configuration() -> None:
    model = tiny(dims=[8, 12, 16], depths=[1, 2, 1], num_classes=5)
    image = torch.randn(1, 3, 40, 24)
    state = model.state_dict()
    for file in (state, {"model": state, "epoch": 3}, {"state_dict": {f"module.{n}": t for n, t in state.items()}}):
        found: Any = mambasdk.import_checkpoint("medmamba", {}, file).eval()
        assert torch.equal(found(image), model(image))
        assert list(found.config.depths) == [1, 2, 1]
    arguments = {"depths": [1, 2, 1], "dims": [8, 12, 16], "num_classes": 5, "drop_path_rate": 0.2, "imgsize": 64}
    found = mambasdk.import_checkpoint("medmamba", arguments, state).eval()
    assert found.config.drop_path_rate == 0.2
    assert found.config.imgsize == (64, 64)
    backbone: Any = mambasdk.import_checkpoint("medmamba", {"out_indices": [0, 2]}, state).eval()
    stages = model.stages(image)
    for level, stage in zip(backbone(image), (stages[0], stages[2]), strict=True):
        expected = functional.layer_norm(stage, (stage.shape[-1],)).permute(0, 3, 1, 2)
        torch.testing.assert_close(level, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"surprise": 1}, "unknown arguments: surprise"),
        ({"patch_norm": False}, "patch_norm = False is no model"),
        ({"dims": 12}, "dims"),
        ({"depths": [1, 1, 2, 1]}, "depths"),
        ({"num_classes": 4}, "num_classes = 4 in the configuration, 10 in the weights"),
    ],
)
def test_files_that_do_not_fit_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("medmamba", config, tiny().state_dict())


def test_files_of_other_models_are_named() -> None:
    vmamba: Any = mambasdk.create_model("vmamba", **get_host().family("vmamba").tiny)
    with pytest.raises(CheckpointError, match=r"no MedMamba: .*conv33conv33conv11"):
        mambasdk.import_checkpoint("medmamba", {}, vmamba.state_dict())


@pytest.mark.parametrize(
    "setting",
    [{"dims": 7}, {"depths": []}, {"dims": [8, 8]}, {"d_state": 0}, {"out_indices": [4]}, {"imgsize": [1, 2, 3]}],
    ids=str,
)
def test_bad_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        tiny(**setting)

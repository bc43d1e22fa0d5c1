"""LightM-UNet: counts in both conventions, files, the skip's scale, sizes, mixed precision, a task it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mixed_precision import train
from torch import nn
from torch.nn import functional

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.models import import_checkpoint
from mambasdk.plugins import get_host
from mambasdk_medical.counts import parameter_count
from mambasdk_medical.families.lightm_unet import LightMUNetConfig, ResidualVisionMamba
from mambasdk_medical.plans import NetworkPlan


def tiny(**overrides: Any) -> Any:
    torch.manual_seed(0)
    return mambasdk.create_model("lightm_unet", **{**get_host().family("lightm_unet").tiny, **overrides})


# ---- counts ----


@pytest.mark.parametrize(
    ("variant", "paper", "true"),
    [
        ("lightm-unet-2d", 734_219, 5_011_683),
        ("lightm-unet-3d", 738_302, 5_015_766),
        ("lightm-unet-2d-dense", 1_097_954, 5_375_415),  # 1.09M in the paper
        ("lightm-unet-3d-dense", 1_872_707, 6_150_168),  # 1.87M in the paper
    ],
)
def test_counts_in_both_conventions(variant: str, paper: int, true: int) -> None:
    """The paper's figures are those of the first upload without its Mamba mixers."""
    model = mambasdk.create_model(variant, device="meta")
    assert parameter_count(model) == true
    assert parameter_count(model, convention="paper") == paper
    mixers = [module.mamba for module in model.modules() if isinstance(module, ResidualVisionMamba)]
    assert sum(parameter_count(mixer) for mixer in mixers) == 4_277_440
    assert parameter_count(mixers[0], convention="paper") == 0


def test_count_takes_shared_parameters_once_and_refuses_other_conventions() -> None:
    layer = nn.Linear(3, 2)
    assert parameter_count(nn.Sequential(layer, layer)) == parameter_count(nn.Sequential(layer, layer), "paper") == 8
    with pytest.raises(InvalidArgumentError, match="bad convention"):
        parameter_count(layer, "state_dict")  # type: ignore[arg-type]


# ---- files ----


@pytest.mark.parametrize("overrides", [{}, {"decoder": "dense"}, {"patch_size": [4, 8, 8], "init_filters": 16}])
@pytest.mark.parametrize("prefix", ["", "module.", "network."])
def test_everything_is_read_off_the_tensors(overrides: dict[str, Any], prefix: str) -> None:
    """Also f, whose default differs between upstream's class and its trainer."""
    model = tiny(**overrides)
    file = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    again: Any = import_checkpoint("lightm_unet", {"patch_size": model.config.patch_size}, file)
    assert again.config == model.config
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_published_patches_without_a_configuration() -> None:
    assert import_checkpoint("lightm_unet", {}, tiny().state_dict()).config.patch_size == (512, 512)  # type: ignore[union-attr]
    volumes = tiny(patch_size=[4, 8, 8]).state_dict()
    assert import_checkpoint("lightm_unet", {}, volumes).config.patch_size == (128, 128, 128)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"init_filters": 32}, "init_filters is not the tensors': expected 8, got 32"),
        ({"blocks_down": [1, 2]}, "blocks_down is not the tensors'"),
        ({"spatial_dims": 3}, "spatial_dims is not the tensors'"),
        ({"depth": 3}, "depth"),
    ],
)
def test_a_configuration_of_other_tensors_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint("lightm_unet", config, tiny().state_dict())


def test_another_networks_file_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no LightM-UNet"):
        import_checkpoint("lightm_unet", {}, {"conv.weight": torch.zeros(1)})


# ---- the layer ----


def test_skip_scale_changes_the_output_and_0_is_the_mixer_alone() -> None:
    """The paper's ablation, and one norm used twice."""
    torch.manual_seed(0)
    layer = ResidualVisionMamba(8, 8).double()
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    x = torch.randn(1, 8, 3, 4, dtype=torch.float64)
    t = x.flatten(2).transpose(1, 2)
    outputs = []
    for scale in (0.0, 1.0):
        nn.init.constant_(layer.skip_scale, scale)
        m = layer.mamba(layer.norm(t)) + scale * t
        y = layer.proj(functional.layer_norm(m, (8,), layer.norm.weight, layer.norm.bias))
        outputs.append(layer(x))
        torch.testing.assert_close(outputs[-1], y.transpose(1, 2).view(1, 8, 3, 4))
    assert not torch.allclose(*outputs, atol=0.1)


def test_first_convolution_is_one_filter_for_one_channel() -> None:
    assert tiny(in_channels=1).convInit[0].conv.weight.shape == (1, 1, 3, 3)
    assert tiny(in_channels=4).convInit[0].conv.weight.shape == (4, 1, 3, 3)


@torch.no_grad()
def test_a_voxel_sees_those_before_it_in_row_major_order() -> None:
    """The layer has one direction: what lies behind changes nothing, for any pieces."""
    torch.manual_seed(0)
    layer = ResidualVisionMamba(8, 8, piece_length=5).double()
    x = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    moved = x.clone()
    moved[:, :, 2, 1] = torch.randn(8, dtype=torch.float64)
    changed = (layer(x) != layer(moved)).any(1).flatten()
    assert not changed[: 2 * 4 + 1].any()
    assert changed[2 * 4 + 1 :].all()


# ---- wrong inputs ----


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"init_filters": 12}, "init_filters.*multiple of 8"),
        ({"init_filters": 0}, "init_filters"),
        ({"patch_size": [16, 20], "blocks_down": [1] * 4, "blocks_up": [1] * 3}, "patch_size.*multiples of 8"),
        ({"blocks_up": [1, 1]}, "blocks_up.*one less"),
        ({"blocks_down": [1, 0]}, "blocks_down"),
        ({"decoder": "full"}, "decoder"),
        ({"piece_length": 0}, "piece_length"),
        ({"patch_size": [16]}, "patch_size"),
    ],
)
def test_bad_configurations_are_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        tiny(**overrides)


def test_images_that_do_not_divide_or_have_other_channels_are_refused() -> None:
    model = tiny(blocks_down=[1] * 4, blocks_up=[1] * 3)
    assert model.patch_divisor == (8, 8)
    for shape in ((1, 2, 16, 20), (1, 1, 16, 16), (1, 2, 16, 16, 16)):
        with pytest.raises(ShapeError):
            model(torch.zeros(shape))
    assert model(torch.zeros(1, 2, 8, 24)).shape == (1, 3, 8, 24)


def test_a_plan_decides_the_axes() -> None:
    settings = LightMUNetConfig.for_plan(NetworkPlan((8, 16, 16), in_channels=2, num_classes=5))
    model = tiny(**settings)
    assert model(torch.zeros(1, 2, 8, 16, 16)).shape == (1, 5, 8, 16, 16)


# ---- training ----


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("patch", [[16, 16], [4, 8, 8]])
def test_200_steps_in_mixed_precision_stay_finite(dtype: torch.dtype, patch: list[int]) -> None:
    losses = train(tiny(patch_size=patch), dtype)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


@pytest.mark.slow
def test_eight_drawn_images_are_learnt() -> None:
    """Discs and squares on 64 x 64 pixels with noise: Dice over 0.95 with eight filters."""
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    labels = torch.zeros(8, 64, 64, dtype=torch.long)
    for index in range(8):
        y, x = torch.randint(18, 46, (2,)).tolist()
        side = 8 + index % 4
        disc = (rows - y).square() + (columns - x).square() < side**2
        square = ((rows - y).abs() < side) & ((columns - x).abs() < side)
        labels[index][disc if index % 2 else square] = 1 + index % 2
    image = (labels > 0)[:, None].float() + 0.3 * torch.randn(8, 1, 64, 64)
    model: Any = mambasdk.create_model("lightm-unet-mini", num_classes=3).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        loss = functional.cross_entropy(model(image), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = model(image).argmax(1)
    for label in (1, 2):
        both = ((found == label) & (labels == label)).sum()
        dice = 2 * both / ((found == label).sum() + (labels == label).sum())
        assert float(dice) > 0.95

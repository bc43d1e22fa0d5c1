"""The residual U-Net by its definition, the rules of its shape, what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.testing.golden import scatter
from mambasdk_medical.families.residual_unet import ResidualUNetConfig
from mambasdk_medical.nn.residual_unet import Upsample
from mambasdk_medical.plans import NetworkPlan

PLANE: dict[str, Any] = {"patch_size": [16, 24], "features_per_stage": [4, 6, 8, 8], "num_classes": 3}
VOLUME: dict[str, Any] = {
    "patch_size": [4, 12, 8],
    "in_channels": 2,
    "features_per_stage": [3, 5, 6],
    "strides": [[1, 1, 1], [1, 3, 2], [2, 2, 2]],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 1, 5]],
    "n_conv_per_stage": [3, 2, 2],
    "n_conv_per_stage_decoder": [2, 3],
}


def made(**settings: Any) -> Any:
    torch.manual_seed(5)
    return scatter(mambasdk.create_model("residual_unet", **settings), 6).double().eval()


class ByDefinition:
    """The network in torch's functions, from its tensors and the text of the architecture."""

    def __init__(self, model: Any) -> None:
        self.w: Mapping[str, Tensor] = model.state_dict()
        self.config: ResidualUNetConfig = model.config
        self.dims = len(self.config.patch_size)
        self.conv = functional.conv2d if self.dims == 2 else functional.conv3d

    def convolved(self, x: Tensor, name: str, stride: Any = 1) -> Tensor:
        weight = self.w[f"{name}.weight"]
        return self.conv(x, weight, self.w[f"{name}.bias"], stride, tuple(size // 2 for size in weight.shape[2:]))

    def normed(self, x: Tensor, name: str) -> Tensor:
        axes = tuple(range(2, x.ndim))
        mean, var = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, unbiased=False)
        shape = (1, -1, *(1 for _ in axes))
        return (x - mean) / (var + 1e-5).sqrt() * self.w[f"{name}.weight"].view(shape) + self.w[f"{name}.bias"].view(
            shape
        )

    @staticmethod
    def act(x: Tensor) -> Tensor:
        return torch.where(x < 0, 0.01 * x, x)

    def stack(self, x: Tensor, name: str, stride: Any = 1) -> Tensor:
        y = self.act(self.normed(self.convolved(x, f"{name}.0.conv1", stride), f"{name}.0.norm1"))
        y = self.normed(self.convolved(y, f"{name}.0.conv2"), f"{name}.0.norm2")
        x = self.act(y + self.convolved(x, f"{name}.0.conv3", stride))
        index = 1
        while f"{name}.{index}.conv1.conv.weight" in self.w:
            first, second = f"{name}.{index}.conv1", f"{name}.{index}.conv2"
            y = self.act(self.normed(self.convolved(x, f"{first}.conv"), f"{first}.norm"))
            x = self.act(self.normed(self.convolved(y, f"{second}.conv"), f"{second}.norm") + x)
            index += 1
        return x

    def __call__(self, image: Tensor) -> list[Tensor]:
        strides = self.config.strides
        x, maps = self.stack(image, "encoder.stem"), []
        for stage, stride in enumerate(strides):
            x = self.stack(x, f"encoder.stages.{stage}", tuple(stride))
            maps.append(x)
        logits = []
        for step in range(len(strides) - 1):
            stage = len(strides) - 2 - step
            for axis, factor in enumerate(strides[stage + 1]):
                x = x.repeat_interleave(factor, 2 + axis)
            x = self.convolved(x, f"decoder.upsample_layers.{step}.conv")
            if self.dims == 3 or stage > 0:
                x = torch.cat([x, maps[stage]], 1)
            x = self.stack(x, f"decoder.stages.{step}")
            logits.append(self.convolved(x, f"decoder.seg_layers.{step}"))
        return logits[::-1]


@pytest.mark.parametrize("settings", [PLANE, VOLUME], ids=["plane", "volume"])
@torch.no_grad()
def test_network_equals_its_definition(settings: dict[str, Any]) -> None:
    """In float64, for the patch and for a larger image."""
    model = made(**settings)
    for times in (1, 2):
        size = [times * extent for extent in settings["patch_size"]]
        image = torch.randn(2, model.config.in_channels, *size, dtype=torch.float64)
        found, expected = model.training_outputs(image), ByDefinition(model)(image)
        assert len(found) == len(expected) == len(settings["features_per_stage"]) - 1
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)
        assert torch.equal(model(image), found[0])


@torch.no_grad()
def test_an_upsampled_convolution_of_size_1_is_the_convolution_of_what_was_upsampled() -> None:
    layer = Upsample(5, 3, 3).double()
    x = torch.randn(2, 5, 2, 3, 2, dtype=torch.float64)
    first = functional.interpolate(x, scale_factor=(1.0, 3.0, 2.0), mode="nearest")
    torch.testing.assert_close(layer(x, (2, 9, 4)), layer.conv(first), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("stages", range(2, 9))
def test_the_later_half_has_one_block(stages: int) -> None:
    """As upstream writes the rule, for every number of stages."""
    config = ResidualUNetConfig(
        (2 ** (stages + 1),) * 2, features_per_stage=[4] * stages, n_conv_per_stage=[3] * stages
    )
    wanted = [1 if stage >= math.ceil(stages / 2) else 3 for stage in range(stages)]
    steps = range(stages - 1)
    assert list(config.encoder_blocks) == wanted
    assert list(config.decoder_blocks) == [1 if math.ceil((stages - 1) / 2 + 0.5) <= step else 2 for step in steps]


def test_a_plan_decides_the_network() -> None:
    plan = NetworkPlan(
        patch_size=(8, 16, 16),
        in_channels=2,
        num_classes=5,
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        features_per_stage=(4, 8, 8),
        n_conv_per_stage=(3, 2, 2),
        n_conv_per_stage_decoder=(2, 2),
        deep_supervision=False,
    )
    for family in ("residual_unet", "u_mamba", "xlstm_unet"):
        model: Any = mambasdk.create_model(family, **ResidualUNetConfig.for_plan(plan))
        assert model.config.patch_size == plan.patch_size
        assert model.config.strides == plan.strides
        assert model.config.kernel_sizes == plan.kernel_sizes
        assert [len(stage) for stage in model.encoder.stages] == [3, 2, 1]
        assert model.patch_divisor == (2, 4, 4)
        outputs = model.training_outputs(torch.randn(1, 2, 8, 16, 16))
        assert [tuple(one.shape) for one in outputs] == [(1, 5, 8, 16, 16)]
    # Without stages of its own a plan leaves the family's.
    bare = ResidualUNetConfig(**ResidualUNetConfig.for_plan(NetworkPlan((32, 32), 1, 2)))
    assert bare.strides == ((1, 1), (2, 2), (2, 2), (2, 2))


def test_convolutions_begin_he_normal() -> None:
    """Variance 2 / ((1 + 0.01^2) * inputs * kernel); biases zero."""
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("residual_unet", features_per_stage=[32, 64, 64])
    for name, tensor in model.state_dict().items():
        if tensor.ndim > 2 and tensor.numel() > 5000:
            expected = math.sqrt(2 / ((1 + 1e-4) * tensor[0].numel()))
            assert float(tensor.std()) == pytest.approx(expected, rel=0.05), name
        if "conv" in name and name.endswith("bias"):
            assert not tensor.any(), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": (20, 24)}, r"bad patch_size: expected multiples of \(8, 8\)"),
        ({"patch_size": (8, 8)}, "deepest map of two positions"),
        ({"features_per_stage": (4,)}, "two stages or more"),
        ({"strides": ((1, 1), (2, 2))}, "bad strides: expected 4 stages of 2 axes"),
        ({"strides": ((2, 2), (2, 2), (2, 2), (1, 1))}, "1 in the first stage"),
        ({"kernel_sizes": ((2, 2),) * 4}, "odd sizes"),
        ({"n_conv_per_stage": (2, 2)}, "bad n_conv_per_stage: expected 4 numbers"),
        ({"n_conv_per_stage_decoder": (2, 0, 2)}, "bad n_conv_per_stage_decoder: expected 3 numbers"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ResidualUNetConfig(**{**PLANE, **settings})


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((1, 2, 16, 24), r"bad image: expected \(B, 1, H, W\)"),
        ((1, 1, 4, 16, 24), "bad image"),
        ((1, 1, 16, 20), r"does not divide: expected multiples of \(8, 8\)"),
        ((1, 1, 8, 8), "deepest map has one position"),
    ],
    ids=str,
)
def test_bad_images_are_named(size: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        made(**PLANE)(torch.zeros(size, dtype=torch.float64))

"""VMamba: stem, stages of SS2D blocks with downsampling between, and its ends: logits, or maps of every stage.

Maps are channel-last throughout; upstream's channel-first variants have the same values under the same names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import ShapeError
from mambasdk.nn import DropPath, LayerNorm
from mambasdk_vision.families.vmamba.config import VMambaConfig
from mambasdk_vision.nn.downsampling import PatchMerging, conv_downsample
from mambasdk_vision.nn.mlp import Mlp
from mambasdk_vision.nn.positions import resize_grid
from mambasdk_vision.nn.ss2d import SS2D
from mambasdk_vision.nn.stages import StagedClassifier, StagedEncoder, StageMaps, init_linear, make_stages
from mambasdk_vision.nn.stems import overlapping_stem, patch_stem


class VSSBlock(nn.Module):
    """`x += drop(op(norm(x)))`, then `x += drop(mlp(norm2(x)))` where there is an MLP."""

    def __init__(self, config: VMambaConfig, channels: int, drop_path: float) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.op = SS2D(
            channels,
            config.ssm_d_state,
            config.ssm_ratio,
            config.ssm_dt_rank,
            d_conv=config.ssm_conv,
            conv_bias=config.ssm_conv_bias,
            act=config.ssm_act_layer,
            dropout=config.ssm_drop_rate,
            ssm_init=config.ssm_init,
            forward_type=config.forward_type,
        )
        self.drop_path = DropPath(drop_path)
        has_mlp = config.mlp_ratio > 0
        self.norm2 = LayerNorm(channels) if has_mlp else None
        self.mlp = (
            Mlp(channels, int(channels * config.mlp_ratio), config.mlp_act_layer, config.mlp_drop_rate)
            if has_mlp
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        x = x + self.drop_path(self.op(self.norm(x)))
        if self.norm2 is not None and self.mlp is not None:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class VMambaEncoder(StagedEncoder):
    """Stem and stages; parameter names are upstream's."""

    no_weight_decay = ("pos_embed",)
    where = "VMamba"

    def __init__(self, config: VMambaConfig) -> None:
        super().__init__(config)
        widths = config.widths
        first = config.patchembed_version == "v1"
        self.least = config.patch_size if first else 1
        stem = patch_stem if first else overlapping_stem
        self.patch_embed = stem(config.in_chans, widths[0], config.patch_size, config.patch_norm)
        self.layers = make_stages(
            config,
            config.drop_path_rate,
            lambda channels, rate: VSSBlock(config, channels, rate),
            lambda channels, following: _downsample(config.downsample_version, channels, following),
        )
        rows, columns = (side // config.patch_size for side in config.image_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[0], rows, columns)) if config.posembed else None
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.mark_parameters()

    def embed(self, image: Tensor) -> Tensor:
        """See StagedEncoder; with positions, for images of the configured size."""
        x = super().embed(image)
        if self.pos_embed is None:
            return x
        positions = self.pos_embed.permute(0, 2, 3, 1)
        if positions.shape[1:3] != x.shape[1:3]:
            raise ShapeError(
                "the image has another size than the position embedding",
                where="VMamba",
                expected=f"an image of {self.config.imgsize}",
                got=tuple(image.shape),
                way_out="mambasdk_vision.adaptation.adapted(model, imgsize=(H, W)) interpolates it",
            )
        return x + positions

    def example_inputs(self) -> dict[str, Tensor]:
        """What a package's golden file is made from: two images of noise."""
        if not self.config.posembed:
            return super().example_inputs()
        size = (2, self.config.in_chans, *self.config.image_size)
        return {"image": torch.randn(size, generator=torch.Generator().manual_seed(0))}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and size are free, but for a position embedding."""
        size: list[int | str] = list(self.config.image_size) if self.config.posembed else ["H", "W"]
        return {"image": ["B", self.config.in_chans, *size]}

    def converted(self, name: str, value: Tensor | None, old: Any, *, legacy: bool) -> Tensor | None:
        """See ImageModel: the position embedding is interpolated."""
        if name == "pos_embed" and value is not None and self.pos_embed is not None:
            return resize_grid(value, *self.pos_embed.shape[2:])
        return value


class VMambaClassifier(StagedClassifier, VMambaEncoder):
    """Image (B, 3, H, W) to logits (B, classes)."""

    def __init__(self, config: VMambaConfig) -> None:
        super().__init__(config)
        init_linear(self)


class VMambaFeatures(StageMaps, VMambaEncoder):
    """Image to the maps of the stages in out_indices."""

    def __init__(self, config: VMambaConfig) -> None:
        super().__init__(config)
        init_linear(self)


def build(config: VMambaConfig) -> VMambaClassifier | VMambaFeatures:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return VMambaFeatures(config) if config.out_indices else VMambaClassifier(config)


def _downsample(version: str, channels: int, out_channels: int) -> nn.Module:
    if version == "v1":
        return PatchMerging(channels, out_channels)
    if version == "none":
        return nn.Identity()
    return conv_downsample(channels, out_channels, 2 if version == "v2" else 3)

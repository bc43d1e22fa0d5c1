"""Pieces of U-Nets made of VSS blocks: embedding, block, encoder, expanding. Maps are channel-last, (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.nn import DropPath, LayerNorm
from mambasdk_vision.nn import MapConv2d
from mambasdk_vision.nn.downsampling import PatchMerging
from mambasdk_vision.nn.ss2d import SS2D
from mambasdk_vision.nn.stages import Stage

MakeBlock = Callable[[int, float], nn.Module]  # (channels, drop path rate) -> a block that keeps a map's shape


class PatchEmbed(nn.Module):
    """Patches side by side, then a norm: parameters `proj.*` and `norm.*`."""

    def __init__(self, in_channels: int, channels: int, patch: int = 4) -> None:
        super().__init__()
        self.proj = MapConv2d(in_channels, channels, patch, stride=patch)
        self.norm = LayerNorm(channels)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, C, H, W) to a map (B, H // patch, W // patch, channels)."""
        y: Tensor = self.norm(self.proj(image.permute(0, 2, 3, 1).contiguous()))
        return y


class PreNormBlock(nn.Module):
    """`x + drop(self_attention(ln_1(x)))`, and no MLP.

    channels: C of the map. attention: keeps the map's shape. drop_path: rate.
    """

    def __init__(self, channels: int, attention: nn.Module, drop_path: float = 0.0) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(channels)
        self.self_attention = attention
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        y: Tensor = x + self.drop_path(self.self_attention(self.ln_1(x)))
        return y


class VSSBlock(PreNormBlock):
    """A PreNormBlock of SS2D, gated. d_state: N. ssm_ratio: D / C. Source: arXiv 2402.02491, of 2401.10166."""

    def __init__(self, channels: int, d_state: int = 16, ssm_ratio: float = 2.0, drop_path: float = 0.0) -> None:
        super().__init__(channels, SS2D(channels, d_state, ssm_ratio, forward_type="v0"), drop_path)


class PatchExpand(nn.Module):
    """(B, H, W, C) to `scale` times the sides, without a bias, then a norm: parameters `expand.weight` and `norm.*`.

    A pixel's channels after the linear layer are (row within the new pixels, column, channel), the row slowest.
    """

    def __init__(self, channels: int, out_channels: int, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.expand = nn.Linear(channels, scale * scale * out_channels, bias=False)
        self.norm = LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to (B, scale H, scale W, out)."""
        batch, height, width, _ = x.shape
        scale, channels = self.scale, self.norm.dim
        y = self.expand(x).view(batch, height, width, scale, scale, channels).permute(0, 1, 3, 2, 4, 5)
        normed: Tensor = self.norm(y.reshape(batch, scale * height, scale * width, channels))
        return normed


class VSSEncoder(nn.Module):
    """`patch_embed`, an image to a map, and `layers`, stages of blocks with merging of patches between them.

    widths, depths: channels and blocks of every stage. block: makes them. rates: drop path of every block.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        block: MakeBlock,
        rates: Sequence[float],
        patch: int = 4,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(in_channels, widths[0], patch)
        left = iter(rates)
        following = [PatchMerging(a, b) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList(
            Stage([block(channels, next(left)) for _ in range(depth)], downsample)
            for channels, depth, downsample in zip(widths, depths, [*following, nn.Identity()], strict=True)
        )

    def stage_inputs(self, image: Tensor) -> list[Tensor]:
        """What every stage takes, (B, h, w, C); image (B, C, H, W)."""
        inputs = [self.patch_embed(image)]
        for stage in self.layers[:-1]:
            layer: Any = stage
            inputs.append(layer.downsample(layer.blocks(inputs[-1])))
        return inputs

    def last_map(self, inputs: Sequence[Tensor]) -> Tensor:
        """What the last stage gives, (B, h, w, C), of `stage_inputs`."""
        last: Any = self.layers[-1]
        y: Tensor = last.downsample(last.blocks(inputs[-1]))
        return y


def drop_rates(last: float, depths: Sequence[int]) -> list[float]:
    """Drop path rates of all blocks, from 0 in the first to `last` linearly."""
    rates: list[float] = torch.linspace(0, last, sum(depths), device="cpu").tolist()
    return rates

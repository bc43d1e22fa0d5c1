"""Parallel branches of several strides: bottlenecks, transitions and fusions, as HRNet has them (arXiv 1908.07919).

Maps are (B, C, h, w), in channels_last memory where the image is; blocks see them channel-last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_EXPANSION = 4


def conv_norm(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias and its norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut: to 4 * channels (arXiv 1512.03385)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        outputs = channels * _EXPANSION
        self.conv1, self.bn1 = conv_norm(inputs, channels)
        self.conv2, self.bn2 = conv_norm(channels, channels, 3)
        self.conv3, self.bn3 = conv_norm(channels, outputs)
        self.downsample = nn.Sequential(*conv_norm(inputs, outputs)) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, inputs, h, w) to (B, 4 * channels, h, w)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ConvUnit(nn.Module):
    """relu(norm(convolution(x))), under the names `conv` and `bn`."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = conv_norm(inputs, outputs, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, inputs, h, w) to (B, outputs, ceil(h / stride), ceil(w / stride))."""
        return functional.relu(self.bn(self.conv(x)))


def _down(inputs: int, outputs: int, steps: int) -> nn.Sequential:
    """`steps` halvings by depthwise convolutions; the channels change in the last one, which has no activation."""
    units = []
    for step in range(steps):
        last = step + 1 == steps
        parts = [*conv_norm(inputs, inputs, 3, 2, groups=inputs), *conv_norm(inputs, outputs if last else inputs)]
        units.append(nn.Sequential(*parts, *([] if last else [nn.ReLU()])))
    return nn.Sequential(*units)


class BranchModule(nn.Module):
    """Blocks on every branch, then each output the sum of all branches at its size.

    widths: channels of the branches, each of half the sides of the one before. block: channels to a block, called for
    the blocks of each branch in turn. num_blocks: of a branch. outputs: how many of the branches come out.
    """

    def __init__(
        self, widths: Sequence[int], num_blocks: int, block: Callable[[int, int], nn.Module], outputs: int
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(block(width, index) for index in range(num_blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._way(widths, to, source) for source in range(len(widths))) for to in range(outputs)
        )

    @staticmethod
    def _way(widths: Sequence[int], to: int, source: int) -> nn.Module:
        if source == to:
            return nn.Identity()
        if source > to:
            return nn.Sequential(*conv_norm(widths[source], widths[to]))
        return _down(widths[source], widths[to], to - source)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C, h, w) of all branches to those that come out."""
        maps = [_apply(branch, x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for to, layers in enumerate(self.fuse_layers):
            ways: Any = layers
            total = None
            for source, x in enumerate(maps):
                y = ways[source](x)
                if source > to:
                    y = _enlarged(y, 2 ** (source - to), maps[to])
                total = y if total is None else total + y
            fused.append(functional.relu(cast("Tensor", total)))
        return fused


def _apply(branch: nn.Module, x: Tensor) -> Tensor:
    """Blocks on a channel-first map."""
    y = cast("Tensor", branch(x.permute(0, 2, 3, 1).contiguous())).permute(0, 3, 1, 2)
    # The compiler fails on strides that are products of free dims.
    return y.contiguous() if torch.compiler.is_exporting() else y


def _enlarged(x: Tensor, factor: int, like: Tensor) -> Tensor:
    """Linear between the elements of x (B, C, h, w): `factor` times as large, then, where sizes are odd, as `like`.

    Two steps, as upstream: one from (h, w) to an odd size would put the elements elsewhere.
    """
    y = functional.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
    if not torch.compiler.is_exporting() and y.shape[2:] == like.shape[2:]:
        return y
    return functional.interpolate(y, like.shape[2:], mode="bilinear", align_corners=False)

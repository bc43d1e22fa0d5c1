"""Convolutions that can be trained in bfloat16 on the CPU, also on the small maps at the bottom of a U-Net.

There the weight gradient of torch's bfloat16 convolutions (oneDNN, torch 2.13) is not of these numbers, and often not
finite, wherever a map's extent is below the filter's: at 2 x 2 x 2 voxels with a filter of side 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _WideOnSmallMaps(nn.modules.conv._ConvNd):
    """In float32 where torch's bfloat16 gradients are wrong."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        if not _trains_in_bfloat16(input) or not self._is_small(input):
            narrow: Tensor = super()._conv_forward(input, weight, bias)
            return narrow
        with torch.autocast(input.device.type, enabled=False):
            wide: Tensor = super()._conv_forward(input.float(), weight.float(), None if bias is None else bias.float())
        return wide.bfloat16()

    def _is_small(self, x: Tensor) -> bool:
        extents = x.shape[-len(self.kernel_size) :]
        sides = [step * (side - 1) + 1 for side, step in zip(self.kernel_size, self.dilation, strict=True)]
        return any(extent < side for extent, side in zip(extents, sides, strict=True))


class Conv2d(_WideOnSmallMaps, nn.Conv2d):
    """nn.Conv2d, whose bfloat16 gradients are right on maps smaller than the filter too."""


class Conv3d(_WideOnSmallMaps, nn.Conv3d):
    """nn.Conv3d, whose bfloat16 gradients are right on maps smaller than the filter too."""


def _trains_in_bfloat16(x: Tensor) -> bool:
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16

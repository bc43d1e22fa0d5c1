"""Attention on the five skips: where in a map, by one convolution for all of them, and which channels of all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mambasdk_medical.nn.convolutions import Conv2d

_KERNEL, _DILATION = 7, 3
_NEIGHBOURS = 3  # channels that the first layer of the channel bridge sees together


class SpatialBridge(nn.Module):
    """Weights (B, 1, h, w) of the pixels of a map: sigmoid of a 7x7 convolution, dilation 3, of mean and largest.

    One convolution for maps of any size and width.
    """

    def __init__(self) -> None:
        super().__init__()
        padding = _DILATION * (_KERNEL // 2)
        conv = Conv2d(2, 1, _KERNEL, padding=padding, dilation=_DILATION)
        self.shared_conv2d = nn.Sequential(conv, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, h, w) in (0, 1), for x (B, C, h, w)."""
        seen = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)  # (B, 2, h, w)
        y: Tensor = self.shared_conv2d(seen)
        return y


class ChannelBridge(nn.Module):
    """Weights of the channels of every map from the means of all: a convolution along them, a linear layer for each.

    widths: channels of the maps.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.get_all_att = nn.Conv1d(1, 1, _NEIGHBOURS, padding=_NEIGHBOURS // 2, bias=False)
        for level, width in enumerate(widths, 1):
            self.add_module(f"att{level}", nn.Linear(sum(widths), width))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, 1, 1) in (0, 1) for each of the maps (B, C, h, w)."""
        means = torch.cat([x.mean(dim=(2, 3)) for x in maps], dim=1)  # (B, sum of the widths)
        seen = self.get_all_att(means.unsqueeze(1)).squeeze(1)
        layers = [self.get_submodule(f"att{level}") for level in range(1, len(self.widths) + 1)]
        return [layer(seen).sigmoid()[:, :, None, None] for layer in layers]


class AttentionBridge(nn.Module):
    """The maps, weighted by pixel and added, then weighted by channel and the weighted pixels added again.

    Source: arXiv 2203.14005 (MALUNet), as arXiv 2403.20035 uses it.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.catt = ChannelBridge(widths)
        self.satt = SpatialBridge()

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the same shapes."""
        placed = [self.satt(x) * x for x in maps]
        both = [weighted + x for weighted, x in zip(placed, maps, strict=True)]
        weights = self.catt(both)
        return [weight * x + weighted for weight, x, weighted in zip(weights, both, placed, strict=True)]

"""The end of Mamba-YOLO: from maps to boxes by distributions of distances (arXiv 2006.04388), and to classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mambasdk.nn import accumulate_dtype
from mambasdk_vision.nn.conv_norm import ConvNorm

_SIDES = 4  # left, top, right, bottom
_PRIOR_SIZE = 640  # pixels of the image with five objects in which a class is as likely as its bias says


class Expectation(nn.Module):
    """Logits of the bins of a distance to the distance: `conv.weight` (1, bins, 1, 1) is 0, 1, …, and stays that."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.arange(bins).view(1, bins, 1, 1))

    def forward(self, logits: Tensor) -> Tensor:
        """Map logits (…, bins) to (…)."""
        return (logits.softmax(dim=-1) * accumulate_dtype(self.conv.weight).flatten()).sum(dim=-1)


class Detect(nn.Module):
    """Maps of three levels to raw maps: 4 * bins channels for the sides of a box, then one for each class."""

    def __init__(self, channels: Sequence[int], classes: int, bins: int) -> None:
        super().__init__()
        self.classes, self.bins = classes, bins
        box, kind = max(16, channels[0] // 4, _SIDES * bins), max(channels[0], min(classes, 100))
        self.cv2 = nn.ModuleList(_branch(c, box, _SIDES * bins) for c in channels)
        self.cv3 = nn.ModuleList(_branch(c, kind, classes) for c in channels)
        self.dfl = Expectation(bins)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map (B, C, h, w) of every level to (B, 4 * bins + classes, h, w)."""
        ends = zip(maps, self.cv2, self.cv3, strict=True)
        return [torch.cat([box(x), kind(x)], dim=1) for x, box, kind in ends]

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Raw rows (…, 4 * bins + classes) as logits of bins (…, 4, bins) and of classes (…, classes)."""
        sides, kinds = rows.split([_SIDES * self.bins, self.classes], dim=-1)
        return sides.unflatten(-1, (_SIDES, self.bins)), kinds

    @torch.no_grad()
    def init_biases(self, strides: Sequence[int]) -> None:
        """Every bin as likely as the others, and few objects."""
        for branch in self.cv2:
            nn.init.ones_(branch[-1].bias)  # type: ignore[index]
        self.init_class_biases(strides)

    @torch.no_grad()
    def init_class_biases(self, strides: Sequence[int]) -> None:
        """As if an image had five objects."""
        for branch, stride in zip(self.cv3, strides, strict=True):
            nn.init.constant_(branch[-1].bias, math.log(5 / self.classes / (_PRIOR_SIZE / stride) ** 2))  # type: ignore[index]


def _branch(channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(ConvNorm(channels, hidden, 3), ConvNorm(hidden, hidden, 3), nn.Conv2d(hidden, out_channels, 1))

"""The decoupled end of YOLOX (arXiv 2107.08430): boxes, whether there is an object, and its class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mambasdk_vision.nn.conv_norm import ConvNorm


class DecoupledHead(nn.Module):
    """Maps of three levels to raw maps: 4 channels for the box, 1 for an object, then one for each class."""

    def __init__(self, channels: Sequence[int], hidden: int, classes: int) -> None:
        super().__init__()
        self.stems = nn.ModuleList(ConvNorm(c, hidden) for c in channels)
        self.cls_convs = nn.ModuleList(_two(hidden) for _ in channels)
        self.reg_convs = nn.ModuleList(_two(hidden) for _ in channels)
        self.cls_preds = nn.ModuleList(nn.Conv2d(hidden, classes, 1) for _ in channels)
        self.reg_preds = nn.ModuleList(nn.Conv2d(hidden, 4, 1) for _ in channels)
        self.obj_preds = nn.ModuleList(nn.Conv2d(hidden, 1, 1) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map (B, C, h, w) of every level to (B, 5 + classes, h, w)."""
        raw = []
        for level, map_ in enumerate(maps):
            x = self.stems[level](map_)
            box = self.reg_convs[level](x)
            kind = self.cls_preds[level](self.cls_convs[level](x))
            raw.append(torch.cat([self.reg_preds[level](box), self.obj_preds[level](box), kind], dim=1))
        return raw


def _two(hidden: int) -> nn.Sequential:
    return nn.Sequential(ConvNorm(hidden, hidden, 3), ConvNorm(hidden, hidden, 3))

"""Decode heads of semantic segmentation on any pyramid of maps, under mmsegmentation's parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError


class ConvNormAct(nn.Module):
    """`relu(bn(conv(x)))` with a convolution without bias, padded to the same size: `conv` and `bn`."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, h, w) to (B, C', h, w)."""
        return functional.relu(self.bn(self.conv(x)))


class _ClassLayer(nn.Module):
    """What both heads end with: dropout of whole channels, then a linear layer on each position, `conv_seg`."""

    def __init__(self, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def classify(self, x: Tensor) -> Tensor:
        """Map x (B, channels, h, w) to logits (B, classes, h, w)."""
        y: Tensor = self.conv_seg(self.dropout(x))
        return y


class UPerHead(_ClassLayer):
    """UPerNet's head (arXiv 1807.10221): pyramid pooling of the last map, then a feature pyramid over all.

    in_channels: C of every map, largest map first; two or more. channels: of every layer of the head. pool_scales:
    sides of the pooled maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 512,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
    ) -> None:
        super().__init__(channels, num_classes, dropout)
        if len(in_channels) < 2:
            raise InvalidArgumentError("bad in_channels", where="UPerHead", expected="two or more", got=in_channels)
        *lower, last = in_channels
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvNormAct(last, channels, 1)) for scale in pool_scales
        )
        self.bottleneck = ConvNormAct(last + len(pool_scales) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvNormAct(width, channels, 1) for width in lower)
        self.fpn_convs = nn.ModuleList(ConvNormAct(channels, channels, 3) for _ in lower)
        self.fpn_bottleneck = ConvNormAct(len(in_channels) * channels, channels, 3)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (B, classes, h, w) of the first map's size; maps (B, C, h, w), each at most as large as the first."""
        last = maps[-1]
        pooled = [resized_map(pool(last), last) for pool in self.psp_modules]
        levels = [lateral(level) for lateral, level in zip(self.lateral_convs, maps[:-1], strict=True)]
        levels.append(self.bottleneck(torch.cat([last, *pooled], dim=1)))
        for index in range(len(levels) - 1, 0, -1):
            levels[index - 1] = levels[index - 1] + resized_map(levels[index], levels[index - 1])
        first, *others = [*(conv(level) for conv, level in zip(self.fpn_convs, levels[:-1], strict=True)), levels[-1]]
        return self.classify(self.fpn_bottleneck(torch.cat([first, *(resized_map(x, first) for x in others)], dim=1)))


class FCNHead(_ClassLayer):
    """A fully convolutional head on one map (arXiv 1411.4038): a 3 x 3 convolution, then the classes."""

    def __init__(self, in_channels: int, num_classes: int, channels: int = 256, dropout: float = 0.1) -> None:
        super().__init__(channels, num_classes, dropout)
        self.convs = nn.Sequential(ConvNormAct(in_channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, h, w) to logits (B, classes, h, w)."""
        return self.classify(self.convs(x))


def resized_map(x: Tensor, like: Tensor) -> Tensor:
    """X (B, C, h, w), bilinearly at the height and width of `like`, which may be the same."""
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)

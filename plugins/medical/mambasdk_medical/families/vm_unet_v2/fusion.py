"""What VM-UNet V2 does with the encoder's maps before its decoder. Maps are (B, C, H, W), best in channels_last memory.

Parameters have upstream's names. Sources: arXiv 1807.06521 for the attentions, 2311.17791 for the infusion of details.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.nn import accumulate_dtype
from mambasdk_medical.nn.convolutions import Conv2d

_REDUCTION = 16  # channels for each hidden one


class ChannelAttention(nn.Module):
    """Scales channels by what their mean and their maximum say, through the same two layers without biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // _REDUCTION, 1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        mean, most = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        said = [self.fc2(functional.relu(self.fc1(pooled))) for pooled in (mean, most)]
        scaled: Tensor = x * (said[0] + said[1]).sigmoid()
        return scaled


class SpatialAttention(nn.Module):
    """Scales pixels by what the mean and the maximum of the channels around say."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        scale: Tensor = self.conv1(pooled).sigmoid()
        return x * scale


class PointNorm(nn.Module):
    """A convolution of single pixels without bias and a batch norm, `conv.*` and `bn.*`; nothing after them."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to (B, out, H, W)."""
        y: Tensor = self.bn(self.conv(x))
        return y


class DetailInfusion(nn.Module):
    """The product over all levels of a convolution of the level's map, brought to one level's size.

    Finer maps are averaged, coarser ones interpolated between corners. The product is float32: of as many factors as
    there are levels it leaves the range of 16 bits soon.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Conv2d(channels, channels, 3, padding=1) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor], level: int) -> Tensor:
        """maps: (B, C, h, w), each half the sides of the one before. Returns one of the size of maps[level]."""
        product: Tensor | None = None
        for index, (conv, x) in enumerate(zip(self.convs, maps, strict=True)):
            factor = accumulate_dtype(conv(_resized(x, maps[level], level - index)))
            product = factor if product is None else product * factor
        assert product is not None
        return product.to(maps[level].dtype)


def _resized(x: Tensor, like: Tensor, coarser: int) -> Tensor:
    """X at the size of `like`, whose sides are halved `coarser` times from those of x; doubled where it is negative."""
    if coarser > 0:
        return functional.avg_pool2d(x, 1 << coarser)
    if coarser < 0:
        return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
    return x

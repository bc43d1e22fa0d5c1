"""CSPDarknet, the encoder of YOLOX (arXiv 2107.08430), with depthwise splits left out. Maps are (B, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk_vision.nn.conv_norm import ConvNorm, phases, pooled

_BASE, _DEPTH = 64, 3  # channels and blocks before scaling


class Focus(nn.Module):
    """Image to a map of stride 2: neighbours side by side, then a convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvNorm(4 * channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W), H and W even, to (B, out, H/2, W/2)."""
        y: Tensor = self.conv(phases(x))
        return y


class Bottleneck(nn.Module):
    """Two convolutions, and the map itself where there is a shortcut."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels)
        self.conv2 = ConvNorm(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSPLayer(nn.Module):
    """Bottlenecks over half the channels, the other half beside them."""

    def __init__(self, channels: int, count: int, shortcut: bool = True) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvNorm(channels, half)
        self.conv2 = ConvNorm(channels, half)
        self.conv3 = ConvNorm(2 * half, channels)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        y: Tensor = self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], dim=1))
        return y


class SPP(nn.Module):
    """The largest values within growing distances, beside the map itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels // 2)
        self.conv2 = ConvNorm(channels // 2 * 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        y: Tensor = self.conv2(pooled(self.conv1(x)))
        return y


class CSPDarknet(nn.Module):
    """Image (B, 3, H, W) to maps of strides 8, 16 and 32.

    depth, width: of the numbers of blocks and of the channels; widths: channels of the three maps.
    """

    def __init__(self, in_chans: int, depth: float, width: float) -> None:
        super().__init__()
        base, count = int(_BASE * width), max(round(_DEPTH * depth), 1)
        self.widths = (4 * base, 8 * base, 16 * base)
        self.stem = Focus(in_chans, base)
        self.dark2 = nn.Sequential(_half(base), CSPLayer(2 * base, count))
        self.dark3 = nn.Sequential(_half(2 * base), CSPLayer(4 * base, 3 * count))
        self.dark4 = nn.Sequential(_half(4 * base), CSPLayer(8 * base, 3 * count))
        self.dark5 = nn.Sequential(_half(8 * base), SPP(16 * base), CSPLayer(16 * base, count, shortcut=False))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w); image (B, 3, H, W), H and W multiples of 32."""
        third: Tensor = self.dark3(self.dark2(self.stem(image)))
        fourth: Tensor = self.dark4(third)
        return [third, fourth, self.dark5(fourth)]


def _half(channels: int) -> ConvNorm:
    return ConvNorm(channels, 2 * channels, 3, stride=2)

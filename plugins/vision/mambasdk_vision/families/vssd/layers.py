"""Convolutions of VSSD between its blocks: each with its batch norm and activation, channel-last outside."""

from __future__ import annotations

from torch import Tensor, nn

from mambasdk_vision.nn import channel_first, channel_last


class ConvLayer(nn.Module):
    """Convolution, batch norm and ReLU from (B, H, W, C) to (B, H', W', C'); sides are rounded up by the stride.

    norm, act: without them those are left out. Parameters are `conv.*` and `norm.*`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
        norm: bool = True,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.act = nn.ReLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to (B, H', W', C')."""
        return channel_last(self.act(self.norm(self.conv(channel_first(x)))))


class Stem(nn.Module):
    """(B, H, W, in_chans) to (B, H/4, W/4, width), sides rounded up twice (arXiv 2407.18559)."""

    def __init__(self, in_chans: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = ConvLayer(in_chans, half, 3, 2)
        self.conv2 = nn.Sequential(ConvLayer(half, half, 3), ConvLayer(half, half, 3, act=False))
        self.conv3 = nn.Sequential(ConvLayer(half, 4 * width, 3, 2), ConvLayer(4 * width, width, 1, act=False))

    def forward(self, image: Tensor) -> Tensor:
        """Map image (B, H, W, in_chans) to (B, h, w, width)."""
        x = self.conv1(image)
        y: Tensor = self.conv3(x + self.conv2(x))
        return y


class Downsample(nn.Module):
    """(B, H, W, C) to half the size, rounded up, and other channels, through a map of 4 times those."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        wide = 4 * out_channels
        self.conv = nn.Sequential(
            ConvLayer(channels, wide, 1, bias=True, norm=False),
            ConvLayer(wide, wide, 3, 2, groups=wide, bias=True, norm=False),
            ConvLayer(wide, out_channels, 1, bias=True, act=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to (B, h, w, out_channels)."""
        y: Tensor = self.conv(x)
        return y

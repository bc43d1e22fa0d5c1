"""The residual convolution blocks of UNETR's decoder, which several networks share. Parameter names are MONAI's.

Source: arXiv 2103.10504; instance norms have no weights, convolutions no biases.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk_medical.nn.spatial import InstanceNorm, convolution, transposed

_SLOPE = 0.01  # of the leaky ReLU


class NamedConv(nn.Module):
    """A convolution under the name `conv`; see `convolution`."""

    def __init__(self, dims: int, channels: int, out_channels: int, kernel: int, *, bias: bool = False) -> None:
        super().__init__()
        self.conv = convolution(dims, channels, out_channels, kernel, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C', *S)."""
        y: Tensor = self.conv(x)
        return y


class NamedTransposed(nn.Module):
    """A transposed convolution of stride 2 under the name `conv`."""

    def __init__(self, dims: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = transposed(dims, channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C', *2S)."""
        y: Tensor = self.conv(x)
        return y


class ResidualConvs(nn.Module):
    """Two convolutions of side 3 with instance norms, and x around them, through one of side 1 for other channels."""

    def __init__(self, dims: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = NamedConv(dims, channels, out_channels, 3)
        self.conv2 = NamedConv(dims, out_channels, out_channels, 3)
        self.norm = InstanceNorm(out_channels)
        self.conv3 = NamedConv(dims, channels, out_channels, 1) if channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C', *S)."""
        y = functional.leaky_relu(self.norm(self.conv1(x)), _SLOPE)
        y = self.norm(self.conv2(y))
        around = x if self.conv3 is None else self.norm(self.conv3(x))
        return functional.leaky_relu(y + around, _SLOPE)


class UnetrBlock(nn.Module):
    """`layer`: what a skip goes through, or the end of a decoder."""

    def __init__(self, dims: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.layer = ResidualConvs(dims, channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C', *S)."""
        y: Tensor = self.layer(x)
        return y


class UnetrUp(nn.Module):
    """A map twice as large, beside its skip, through residual convolutions."""

    def __init__(self, dims: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.transp_conv = NamedTransposed(dims, channels, out_channels)
        self.conv_block = ResidualConvs(dims, 2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """X (B, C, *S) and skip (B, C', *2S) to (B, C', *2S)."""
        y: Tensor = self.conv_block(torch.cat([self.transp_conv(x), skip], dim=1))
        return y

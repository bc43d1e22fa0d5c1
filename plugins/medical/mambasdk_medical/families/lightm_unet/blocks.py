"""What a LightM-UNet is made of: wrapped convolutions, the Residual Vision Mamba layer, blocks of both sides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.nn import LayerNorm, Mamba, MambaState
from mambasdk_medical.families.lightm_unet.config import GROUPS
from mambasdk_medical.nn.pieces import PIECE, in_pieces
from mambasdk_medical.nn.precision import without_autocast
from mambasdk_medical.nn.spatial import convolution, tokens, untokens


class WrappedConv(nn.Module):
    """A convolution of odd side that keeps the size, under upstream's name `conv`."""

    def __init__(
        self, dims: int, channels: int, out_channels: int, kernel: int, *, groups: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.conv = convolution(dims, channels, out_channels, kernel, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C', *S)."""
        y: Tensor = self.conv(x)
        return y


def depthwise_conv(dims: int, channels: int, out_channels: int, kernel: int, *, bias: bool = False) -> nn.Sequential:
    """A depthwise convolution of the given channels, then one of side 1 to those that come out."""
    return nn.Sequential(
        WrappedConv(dims, channels, channels, kernel, groups=channels, bias=bias),
        WrappedConv(dims, channels, out_channels, 1, bias=bias),
    )


def group_norm(channels: int) -> nn.GroupNorm:
    """Of eight groups."""
    return nn.GroupNorm(GROUPS, channels)


def normed_relu(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """ReLU of the norm, in the norm's memory."""
    return functional.relu(norm(x), inplace=True)


class ResidualVisionMamba(nn.Module):
    """Map (B, C, *S) to (B, C', *S): `m = mamba(norm(t)) + skip_scale * t`, then `proj(norm(m))`, of tokens t.

    Tokens are the voxels in row-major order, and norm is one module used twice. They are computed in pieces of
    piece_length: everything here is of a token alone but the mixer, which goes on from its state. In float32 under
    autocast. Source: arXiv 2403.05246, section 3.3, as released.
    """

    def __init__(self, channels: int, out_channels: int, piece_length: int = PIECE) -> None:
        super().__init__()
        self.piece_length = piece_length
        self.norm = LayerNorm(channels)
        self.mamba = Mamba(channels)
        self.proj = nn.Linear(channels, out_channels)
        self.skip_scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C', *S)."""
        y = without_autocast(lambda wide: in_pieces(self.mix, tokens(wide), self.piece_length), x)
        return untokens(y, x.shape[2:])

    def mix(self, x: Tensor, state: MambaState | None = None, *, return_state: bool = False) -> Any:
        """Tokens (B, L, C) -> (B, L, C'), with the state contract of the mixer."""
        mixed = self.mamba(self.norm(x), state, return_state=return_state)
        y, after = mixed if return_state else (mixed, None)
        y = self.proj(self.norm(torch.addcmul(y, self.skip_scale, x)))
        return (y, after) if return_state else y


class ResMambaBlock(nn.Module):
    """Two layers, each of `relu(norm(x))`, around which x goes."""

    def __init__(self, channels: int, piece_length: int = PIECE) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.norm2 = group_norm(channels)
        self.conv1 = ResidualVisionMamba(channels, channels, piece_length)
        self.conv2 = ResidualVisionMamba(channels, channels, piece_length)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, *S) to the same shape."""
        y: Tensor = self.conv1(normed_relu(self.norm1, x))
        y = self.conv2(normed_relu(self.norm2, y))
        return y + x


class ResUpBlock(nn.Module):
    """The released decoder's: `relu(norm2(depthwise(relu(norm1(x))) + skip_scale * x))`."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.norm2 = group_norm(channels)
        self.conv = depthwise_conv(dims, channels, channels, 3)
        self.skip_scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, *S) to the same shape."""
        y = self.conv(normed_relu(self.norm1, x))
        return normed_relu(self.norm2, torch.addcmul(y, self.skip_scale, x))


class DenseUpBlock(nn.Module):
    """The first upload's: two convolutions of side 3, each of `relu(norm(x))`, around which x goes.

    A reading: that code is not published any more. The paper's counts, in 2-D and 3-D, leave no other layers open.
    """

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.norm2 = group_norm(channels)
        self.conv1 = WrappedConv(dims, channels, channels, 3)
        self.conv2 = WrappedConv(dims, channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, *S) to the same shape."""
        y: Tensor = self.conv1(normed_relu(self.norm1, x))
        y = self.conv2(normed_relu(self.norm2, y))
        return y + x

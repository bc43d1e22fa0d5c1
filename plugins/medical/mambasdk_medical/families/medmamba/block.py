"""The block of a MedMamba: convolutions on one half of the channels, a four-route scan on the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk.errors import ShapeError
from mambasdk.nn import DropPath, LayerNorm
from mambasdk_medical.nn.convolutions import Conv2d
from mambasdk_vision.nn import channel_first, channel_last
from mambasdk_vision.nn.ss2d import SS2D


class SSConvSSM(nn.Module):
    """`x + shuffled(convolutions(first half of x), drop(scan(norm(second half of x))))`, without an activation behind.

    The convolutions are BN, 3x3, BN, ReLU, 3x3, BN, ReLU, 1x1, ReLU, all of C/2 channels with biases. That the first
    half is theirs, and that the path drops the scan alone, is a reading: nothing published decides it.
    channels: C, even. d_state: N of the scan. drop_path: rate. Source: arXiv 2403.03849, section 3.3.
    """

    def __init__(self, channels: int, d_state: int = 16, drop_path: float = 0.0) -> None:
        super().__init__()
        half = channels // 2
        self.channels = channels
        self.ln_1 = LayerNorm(half)
        self.self_attention = SS2D(half, d_state, 2.0, forward_type="v0")
        self.drop_path = DropPath(drop_path)
        self.conv33conv33conv11 = nn.Sequential(
            nn.BatchNorm2d(half),
            Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape. Raises ShapeError."""
        if x.ndim != 4 or x.shape[-1] != self.channels:
            raise ShapeError("bad x", where="SSConvSSM", expected=f"(B, H, W, {self.channels})", got=tuple(x.shape))
        near, far = x.chunk(2, dim=-1)  # (B, H, W, C/2) each
        near = channel_last(self.conv33conv33conv11(channel_first(near)))
        far = self.drop_path(self.self_attention(self.ln_1(far)))
        return x + shuffled(near, far)


def shuffled(first: Tensor, second: Tensor) -> Tensor:
    """(…, 2D) of two tensors (…, D): the channels in turn, so that each half of them has some of both.

    The same as a channel shuffle with two groups of both side by side (arXiv 1707.01083).
    """
    return torch.stack([first, second], dim=-1).flatten(-2)

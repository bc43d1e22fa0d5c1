"""The layer that gives the network its size: one Mamba mixer for four parts of the channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk.errors import ShapeError
from mambasdk.nn import LayerNorm, Mamba
from mambasdk_medical.families.ultralight_vm_unet.config import PARTS
from mambasdk_medical.nn.spatial import tokens, untokens


class ParallelMamba(nn.Module):
    """Map (B, C, H, W) to (B, out, H, W): norm, a mixer with a scaled skip on each quarter of the channels, the same
    norm again, a linear layer.

    channels: C, a multiple of 4. d_state, d_conv, expand: see `mambasdk.nn.Mamba`, which is of C/4 channels and one
    for all parts: they go through it as rows of a batch. Pixels are read row by row, so that none sees those behind
    it. Source: arXiv 2403.20035, section 3.2 (the PVM layer).
    """

    def __init__(self, channels: int, out_channels: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        self.channels = channels
        self.norm = LayerNorm(channels)
        self.mamba = Mamba(channels // PARTS, d_state, d_conv, expand)
        self.proj = nn.Linear(channels, out_channels)
        self.skip_scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to (B, out, H, W). Raises ShapeError."""
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ShapeError("bad x", where="ParallelMamba", expected=f"(B, {self.channels}, H, W)", got=tuple(x.shape))
        batch, channels, height, width = x.shape
        normed = self.norm(tokens(x))  # (B, L, C)
        parts = normed.unflatten(-1, (PARTS, channels // PARTS)).transpose(1, 2).flatten(0, 1)  # (B*4, L, C/4)
        mixed = self.mamba(parts) + self.skip_scale * parts
        mixed = mixed.view(batch, PARTS, height * width, channels // PARTS).transpose(1, 2).flatten(2)  # (B, L, C)
        y: Tensor = self.proj(self.norm(mixed))  # (B, L, out)
        return untokens(y, (height, width))

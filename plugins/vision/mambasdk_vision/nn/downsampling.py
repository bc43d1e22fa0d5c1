"""From one stage to the next: half the sides, other channels. Maps are channel-last."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.nn import LayerNorm
from mambasdk_vision.nn.maps import MapConv2d


class PatchMerging(nn.Module):
    """(B, H, W, C) to half the size: neighbours side by side, norm, linear (as Swin, arXiv 2103.14030)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to (B, ceil(H/2), ceil(W/2), out); odd sides get a row or column of zeros."""
        batch, height, width, channels = x.shape
        rows, columns = (height + 1) // 2, (width + 1) // 2
        if torch.compiler.is_compiling() or height % 2 or width % 2:
            x = functional.pad(x, (0, 0, 0, 2 * columns - width, 0, 2 * rows - height))
        x = x.view(batch, rows, 2, columns, 2, channels).permute(0, 1, 3, 4, 2, 5)  # neighbours column by column
        y: Tensor = self.reduction(self.norm(x.reshape(batch, rows, columns, 4 * channels)))
        return y


def conv_downsample(channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """(B, H, W, C) to half the size by a convolution of stride 2 and a norm, parameters `1.*` and `3.*`.

    kernel: 3 rounds odd sides up, 2 down.
    """
    conv = MapConv2d(channels, out_channels, kernel, stride=2, padding=kernel // 3)
    return nn.Sequential(nn.Identity(), conv, nn.Identity(), LayerNorm(out_channels))

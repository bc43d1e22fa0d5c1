"""What the convolutional parts of detectors are made of. Maps are (B, C, H, W), best in channels_last memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_POOLS, _POOL = 3, 5  # of a spatial pyramid; three of side 5 see 5, 9 and 13 pixels


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """As YOLO's: eps 1e-3, momentum 0.03."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, SiLU: parameters `conv.weight` and `bn.*`.

    kernel: odd; the map is padded so that a stride of 1 keeps its size.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.bn = batch_norm(out_channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


def phases(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 4C, H/2, W/2): pixels of even and odd rows and columns side by side. H and W are even."""
    parts = [x[..., row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    return torch.cat(parts, dim=1)


def pooled(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 4C, H, W): x, and its largest values within 5, 9 and 13 pixels (arXiv 1406.4729)."""
    maps = [x]
    for _ in range(_POOLS):
        maps.append(functional.max_pool2d(maps[-1], _POOL, stride=1, padding=_POOL // 2))
    return torch.cat(maps, dim=1)


def doubled(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, 2H, 2W): every pixel four times."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def channels_last(image: Tensor) -> Tensor:
    """The image in the memory that convolutions are fastest in; as it is in a traced graph, which chooses itself."""
    return image if torch.compiler.is_exporting() else image.contiguous(memory_format=torch.channels_last)

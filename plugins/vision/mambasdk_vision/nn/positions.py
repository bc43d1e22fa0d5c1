"""Position embeddings of another grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def resize_grid(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Bicubic resize (corners not aligned) of positions (1, C, h, w) to (1, C, rows, columns), in their dtype."""
    if not torch.compiler.is_exporting() and positions.shape[2:] == (rows, columns):  # a graph takes every size
        return positions
    resized = functional.interpolate(positions.float(), (rows, columns), mode="bicubic", align_corners=False)
    return resized.to(positions.dtype)

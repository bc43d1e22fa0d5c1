"""Rotary position embedding of patches in two axes (arXiv 2401.09417; off in the released classifiers)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PatchRotation(nn.Module):
    """Rotates neighbouring channel pairs of patches: the first half of the channels by row, the second by column.

    grid: rows and columns of patches. reference: side of the grid for which angles are not scaled.
    skip: index of the token that is no patch, None where all are.
    freqs_cos, freqs_sin: (rows * columns, D), under the names of upstream's files.
    """

    freqs_cos: Tensor
    freqs_sin: Tensor

    def __init__(self, dim: int, grid: tuple[int, int], reference: int, skip: int | None) -> None:
        super().__init__()
        self.skip = skip
        rows, columns = grid
        frequencies = 10000.0 ** (-torch.arange(0, dim // 2, 2) / (dim // 2))  # (D/4)
        height = torch.arange(rows) / rows * reference
        width = torch.arange(columns) / columns * reference
        by_row = torch.outer(height, frequencies).repeat_interleave(2, dim=1)  # (rows, D/2)
        by_column = torch.outer(width, frequencies).repeat_interleave(2, dim=1)  # (columns, D/2)
        angles = torch.cat(
            [by_row[:, None].expand(-1, columns, -1), by_column[None].expand(rows, -1, -1)], dim=-1
        ).reshape(rows * columns, dim)
        self.register_buffer("freqs_cos", angles.cos())
        self.register_buffer("freqs_sin", angles.sin())

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, M, D), or (B, M+1, D) with the token to skip, to the same shape."""
        if self.skip is None:
            return self._rotate(x)
        before, token, after = x.tensor_split([self.skip, self.skip + 1], dim=1)
        patches = self._rotate(torch.cat([before, after], 1))
        before, after = patches.tensor_split([self.skip], dim=1)
        return torch.cat([before, token, after], 1)

    def _rotate(self, x: Tensor) -> Tensor:
        pairs = x.unflatten(-1, (-1, 2))  # (B, M, D/2, 2)
        turned = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
        return (x * self.freqs_cos + turned * self.freqs_sin).to(x.dtype)

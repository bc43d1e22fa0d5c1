"""The patches that pretraining hides (arXiv 2405.11831)."""

from __future__ import annotations

import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError
from mambasdk_audio.families.ssamba.config import Grid

_SMALLEST_CLUSTER = 3


def sample_mask(batch: int, grid: Grid, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Indices of `count` hidden patches of each clip, int64 (batch, count), ascending.

    Squares of 3 to 5 patches are placed until more than `count` patches are covered; then the largest indices go. As
    upstream, a square goes on in the next row of frequencies where it leaves the grid, and patch 0 is never hidden.
    Raises InvalidArgumentError where the grid has fewer than count + 2 patches.
    """
    columns = grid[1]
    patches = grid[0] * columns
    if not 1 <= count <= patches - 2:
        raise InvalidArgumentError(
            f"{count} patches to hide of {patches}", where="sample_mask", expected=f"1 to {patches - 2}"
        )
    return torch.stack([_one_mask(patches, columns, count, generator) for _ in range(batch)])


def _one_mask(patches: int, columns: int, count: int, generator: torch.Generator | None) -> Tensor:
    size = _SMALLEST_CLUSTER + int(torch.randint(3, (1,), generator=generator))
    steps = torch.arange(size)
    square = (columns * steps[:, None] + steps).flatten()  # (size * size)
    hidden = torch.zeros(patches, dtype=torch.bool)
    while int(hidden.sum()) <= count:
        found = int(torch.randint(patches, (1,), generator=generator)) + square
        hidden[found[(found > 0) & (found < patches)]] = True
    return hidden.nonzero().flatten()[:count]

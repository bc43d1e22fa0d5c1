"""Position embeddings of one grid of patches on another, as the authors' code resamples them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk.errors import ShapeError
from mambasdk_audio.families.ssamba.config import Grid

_UPSTREAM_ROWS = 8  # the height that upstream resizes the time axis with, whatever the grid


def resample_positions(embedding: Tensor, old: Grid, new: Grid, *, upstream_quirks: bool = False) -> Tensor:
    """Position embedding (1, 1 + P_f P_t, D) of grid `new` from that of grid `old`; the class token's row stays.

    A shorter axis is cut out of the middle, a longer one is resized bilinearly (align_corners=False).
    upstream_quirks: do as upstream where it is at fault: with fewer rows it keeps as many rows as there are columns,
    and resizing the time axis makes 8 rows. On grids of 8 rows that do not shrink there is no difference.
    Raises ShapeError, with the quirks also where upstream cannot go on.
    """
    rows, columns = old
    if embedding.ndim != 3 or embedding.shape[:2] != (1, 1 + rows * columns):
        raise ShapeError(
            "bad position embedding",
            where="resample_positions",
            expected=f"(1, {1 + rows * columns}, D) for a grid of {rows} x {columns}",
            got=tuple(embedding.shape),
        )
    if old == new:
        return embedding
    dim = embedding.shape[-1]
    grid = embedding[:, 1:].transpose(1, 2).reshape(1, dim, rows, columns)  # (1, D, P_f, P_t)
    height, width = new
    if width < columns:
        first = columns // 2 - width // 2
        grid = grid[..., first : first + width]
    elif width > columns:
        grid = _resized(grid, (_UPSTREAM_ROWS if upstream_quirks else rows, width))
    if height < rows:
        first = rows // 2 - height // 2
        grid = grid[:, :, first : first + (width if upstream_quirks else height)]
    elif height != grid.shape[2]:
        grid = _resized(grid, new)
    if grid.shape[2:] != new:
        raise ShapeError(
            "upstream's resampling does not make this grid",
            where="resample_positions",
            expected=f"{height} x {width}",
            got=f"{grid.shape[2]} x {grid.shape[3]}",
            way_out="leave upstream_quirks out",
        )
    return torch.cat([embedding[:, :1], grid.flatten(2).transpose(1, 2)], 1)


def _resized(grid: Tensor, size: Grid) -> Tensor:
    return functional.interpolate(grid.float(), size, mode="bilinear", align_corners=False).to(grid.dtype)

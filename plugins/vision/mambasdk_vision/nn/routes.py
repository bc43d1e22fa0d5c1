"""The orders in which scans visit a map: tables of pixels by route and step, made once for each size."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

Scan = Literal["cross", "forward", "both"]
ROUTES = 4  # of a cross scan
_SIZES = 64  # tables that are kept of each kind

_Tables = TypeVar("_Tables")


def cached_routes(build: Callable[..., _Tables]) -> Callable[..., _Tables]:
    """`build(height, width, …, device=None)`, whose tables are kept for the next call of the same size.

    Nothing is kept while a graph is traced, or under a mode whose tensors are not real.
    """

    @lru_cache(_SIZES)
    def kept(*arguments: Any, device: torch.device | None) -> _Tables:
        with torch.inference_mode(False):
            return build(*arguments, device=device)

    def table(*arguments: Any, device: torch.device | None = None) -> _Tables:
        if torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None:
            return build(*arguments, device=device)
        return kept(*arguments, device=device)

    table.__doc__, table.__name__ = build.__doc__, build.__name__
    return table


@cached_routes
def cross_routes(height: int, width: int, scan: Scan = "cross", device: torch.device | None = None) -> Tensor:
    """(4, height * width) int32: the pixel, counted row by row, that route k visits in step t (arXiv 2401.10166).

    "cross": rows, columns, and both from the end. "forward": rows four times. "both": rows twice, then from the end.
    """
    rows = torch.arange(height * width, dtype=torch.int32, device=device)
    if scan == "forward":
        return rows.expand(ROUTES, -1).contiguous()
    if scan == "both":
        return torch.stack([rows, rows, rows.flip(0), rows.flip(0)])
    columns = rows.view(height, width).t().reshape(-1)
    return torch.stack([rows, columns, rows.flip(0), columns.flip(0)])


@cached_routes
def diagonal_routes(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(8, height * width) int32: rows, columns and both from the end; diagonals, anti-diagonals and both from the end.

    A diagonal goes down one row and right (an anti-diagonal left) one column in each step, from the first row to the
    last, and goes on at the other edge where it leaves the map: every route visits each pixel once (arXiv 2405.01828).
    """
    cross = cross_routes(height, width, device=device)
    row = torch.arange(height, dtype=torch.int32, device=device)  # (H)
    column = torch.arange(width, dtype=torch.int32, device=device)[:, None]  # (W, 1): where a diagonal begins
    diagonals = [(row * width + (column + row * step) % width).reshape(-1) for step in (1, -1)]
    return torch.cat([cross, torch.stack([*diagonals, *(route.flip(0) for route in diagonals)])])

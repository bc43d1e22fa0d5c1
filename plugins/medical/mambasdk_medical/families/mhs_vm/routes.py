"""The eight orders in which MHS-VM's heads visit a map: tables of rows, made once for each size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mambasdk_vision.nn.routes import cached_routes

BASES = 2  # routes of a head; each is walked from its end too


class Visits(NamedTuple):
    """Where rows lie, for n heads and a map of L pixels; all (L * 2n) int64.

    A table is a base route of a head, the heads' first ones before all second ones. enter: for (step, table) the row of
    (pixel, head) that it reads. leave: for (base, pixel, head) the row of (step, table) that stands there. back: the
    other way of `leave`.
    """

    enter: Tensor
    leave: Tensor
    back: Tensor


def base_routes(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(8, H * W) int64: the pixel, counted row by row, that a route visits in step t (arXiv 2406.05992).

    Rows: snakes along rows and along columns (C0, C1); anti-diagonals, which turn at the edges, and the same mirrored
    left to right (X0, X1); the spiral inwards, clockwise from the first pixel, and the same mirrored top to bottom
    (S0, S1); rows and columns (Z0, Z1).
    """
    return _steps(height, width, device).argsort(dim=1)


@cached_routes
def visits(height: int, width: int, heads: int, device: torch.device | None = None) -> Visits:
    """The tables of the first `heads` heads."""
    steps = _steps(height, width, device)[: BASES * heads]  # (2n, L), the bases of a head side by side
    steps = steps.unflatten(0, (heads, BASES)).transpose(0, 1).flatten(0, 1)
    order = steps.argsort(dim=1)
    table = torch.arange(BASES * heads, device=device)
    head = torch.arange(heads, device=device).repeat(BASES)
    base = torch.arange(BASES, device=device).repeat_interleave(heads)
    rows = steps.t() * (BASES * heads) + table  # (L, 2n)
    return Visits(
        enter=(order.t() * heads + head).flatten(),
        leave=rows.unflatten(1, (BASES, heads)).transpose(0, 1).flatten(),
        back=(base * (height * width * heads) + order.t() * heads + head).flatten(),
    )


def _steps(height: int, width: int, device: torch.device | None) -> Tensor:
    """(8, H * W) int64: the step in which each pixel is visited; see base_routes."""
    row = torch.arange(height, device=device)[:, None].expand(height, width)
    column = torch.arange(width, device=device)[None, :].expand(height, width)
    snake = row * width + torch.where(row % 2 == 0, column, width - 1 - column)
    upright = column * height + torch.where(column % 2 == 0, row, height - 1 - row)
    diagonal, spiral = _diagonal(row, column, height, width), _spiral(row, column, height, width)
    tables = [snake, upright, diagonal, diagonal.flip(1), spiral, spiral.flip(0)]
    tables += [row * width + column, column * height + row]
    return torch.stack(tables).flatten(1)


def _diagonal(row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """Anti-diagonals one after the other: even ones from below upwards, odd ones from above downwards."""
    which = row + column
    before = _triangle(which) - _triangle(which - width) - _triangle(which - height)
    first = (which - width + 1).clamp(min=0)  # the rows that it crosses
    last = which.clamp(max=height - 1)
    return before + torch.where(which % 2 == 0, last - row, row - first)


def _triangle(side: Tensor) -> Tensor:
    """1 + 2 + … + side, 0 for what is below 1."""
    side = side.clamp(min=0)
    return side * (side + 1) // 2


def _spiral(row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """Ring by ring: the top row, the right column, the bottom row back, the left column up.

    Where one row or column is left, its first or second part is all of it.
    """
    below, right = height - 1 - row, width - 1 - column
    ring = torch.minimum(torch.minimum(row, below), torch.minimum(column, right))
    high, wide = height - 2 * ring, width - 2 * ring  # of what the ring encloses, itself included
    before = height * width - high * wide
    top = column - ring
    down = (wide - 1) + (row - ring)
    bottom = (wide - 1) + (high - 1) + (right - ring)
    up = 2 * (wide - 1) + (high - 1) + (below - ring)
    along = torch.where(below == ring, bottom, up)
    along = torch.where(right == ring, down, along)
    return before + torch.where(row == ring, top, along)

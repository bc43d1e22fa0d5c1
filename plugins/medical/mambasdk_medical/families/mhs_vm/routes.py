"""The eight orders in which MHS-VM's heads visit a map: tables of rows, made once for each size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mambasdk_vision.nn.routes import cached_routes

BASES = 2  # routes of a head; each is walked from its end too


class Visits(NamedTuple):
    """Where the rows of a head lie, for a map of L pixels and the two base routes; all (2L) int64.

    enter: for (step, base) the pixel that it reads. leave: for (base, pixel) the row of (step, base) that stands there.
    back: the other way of `leave`.
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
def visits(height: int, width: int, device: torch.device | None = None) -> tuple[Visits, ...]:
    """The tables of the four heads."""
    made = []
    base = torch.arange(BASES, device=device)[:, None]
    for steps in _steps(height, width, device).split(BASES):  # (2, L)
        order = steps.argsort(dim=1)
        leave, back = steps * BASES + base, base * (height * width) + order
        made.append(Visits(enter=order.t().flatten(), leave=leave.flatten(), back=back.t().flatten()))
    return tuple(made)


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

"""The snakes in which PlainMamba's four routes visit a map, and the move that each step makes (arXiv 2403.17695)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mambasdk_vision.nn.routes import cached_routes

DIRECTIONS = 5  # the first step of a route, which comes from nowhere, and the four moves
_START, _RIGHT, _LEFT, _UP, _DOWN = range(DIRECTIONS)


class Snakes(NamedTuple):
    """order: (4, H * W) int32, the pixel, counted row by row, that route k visits in step t.

    directions: (4, H * W) int64, how it came there: 0 at the start, 1 from the left, 2 from the right, 3 from below,
    4 from above.
    """

    order: Tensor
    directions: Tensor


@cached_routes
def snakes(height: int, width: int, device: torch.device | None = None) -> Snakes:
    """Along the rows, back along them, along the columns, and back; each step goes to a neighbour.

    Even rows go right and odd ones left; even columns go down and odd ones up.
    """
    pixels = torch.arange(height * width, dtype=torch.int32, device=device).view(height, width)
    rows, columns = _turning(pixels), _turning(pixels.t())
    order = torch.stack([rows, rows.flip(0), columns, columns.flip(0)])
    directions = torch.stack(
        [
            _moves(height, width, _RIGHT, _LEFT, _DOWN, device),
            # The moves from the end are the opposite ones, and the first of them is no move.
            _moves(height, width, _LEFT, _RIGHT, _UP, device).flip(0).roll(1, 0),
            _moves(width, height, _DOWN, _UP, _RIGHT, device),
            _moves(width, height, _UP, _DOWN, _LEFT, device).flip(0).roll(1, 0),
        ]
    )
    return Snakes(order, directions)


def _is_odd(count: int, device: torch.device | None) -> Tensor:
    """(count, 1): which lines go backwards."""
    return (torch.arange(count, device=device) % 2 == 1).unsqueeze(1)


def _turning(lines: Tensor) -> Tensor:
    """The pixels of lines (n, m) one line after the other, every second one from its end: (n * m)."""
    return torch.where(_is_odd(lines.shape[0], lines.device), lines.flip(1), lines).reshape(-1)


def _moves(lines: int, length: int, ahead: int, back: int, turn: int, device: torch.device | None) -> Tensor:
    """The moves of a snake over `lines` of `length`: ahead on even ones, back on odd ones, a turn between: (n * m)."""
    along = torch.where(_is_odd(lines, device), back, ahead)  # (n, 1)
    enters = torch.arange(length, device=device) == 0
    moves = torch.where(enters, turn, along).reshape(-1)
    return torch.where(torch.arange(lines * length, device=device) == 0, _START, moves)

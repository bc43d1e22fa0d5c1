"""Scan-route attention: how far a pixel's four outputs lie apart is how much their sum counts (arXiv 2406.05992)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mambasdk.nn import accumulate_dtype

_EPS = 1e-5
_ROUTES = 4
_LEAST_DEVIATION = 1e-18  # below it the sum has no weight, and what is divided by it is 0


def route_attention(outputs: tuple[Tensor, Tensor, Tensor, Tensor], threshold: float) -> Tensor:
    """`sum * max(0, cv - threshold)` of the routes' outputs, each (…); float32, or float64 of such.

    cv: sample standard deviation over `mean(o - min(o)) + 1e-5`. threshold: 0 or more. Derivatives: of equal smallest
    outputs the first one counts; none comes from the deviation where all four are equal; none from below the threshold.
    """
    weighed: Tensor = _RouteAttention.apply(*map(accumulate_dtype, outputs), threshold)  # type: ignore[no-untyped-call]
    return weighed


class _RouteAttention(torch.autograd.Function):
    """By hand, in memory of its own: as a chain of operations it takes as long as half of the scans."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, c: Tensor, d: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(a, b, c, d)
        ctx.threshold = threshold
        found = _statistics(a, b, c, d)
        weight = found.deviation.div_(found.spread).sub_(threshold).clamp_(min=0)
        return weight.mul_(found.total)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        routes = ctx.saved_tensors
        total, deviation, spread, least = _statistics(*routes)
        weight = (deviation / spread - ctx.threshold).clamp_(min=0)
        counted = grads[0] * total * (weight > 0)
        by_least = counted * deviation / spread.square()  # d / d min
        by_distance = counted / (deviation.clamp(min=_LEAST_DEVIATION) * spread * (_ROUTES - 1))
        same = weight.mul_(grads[0]).sub_(by_least, alpha=1 / _ROUTES)
        mean = total / _ROUTES
        found: list[Tensor | None] = []
        for route in routes:
            first = by_least * (route == least)
            by_least = by_least - first  # nothing is left for a second one
            found.append((route - mean).mul_(by_distance).add_(same).add_(first))
        return (*found, None)


class _Statistics(NamedTuple):
    """Of four outputs: sum, sample standard deviation, mean distance from the smallest + 1e-5, the smallest."""

    total: Tensor
    deviation: Tensor
    spread: Tensor
    least: Tensor


def _statistics(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> _Statistics:
    """Of the outputs, each (…). Squares are of differences, so that what the outputs have in common cancels first."""
    least = torch.minimum(torch.minimum(a, b), torch.minimum(c, d))
    one, other = a + b, c + d
    # sum (o - mean)^2 = ((a + b) - (c + d))^2 / 4 + (a - b)^2 / 2 + (c - d)^2 / 2
    difference = one - other
    squares = difference.square().mul_(0.5)
    difference = a - b
    squares = squares.addcmul_(difference, difference)
    difference = c - d
    squares = squares.addcmul_(difference, difference)
    total = one.add_(other)
    spread = (total / _ROUTES).sub_(least).add_(_EPS)
    return _Statistics(total, squares.mul_(0.5 / (_ROUTES - 1)).sqrt_(), spread, least)

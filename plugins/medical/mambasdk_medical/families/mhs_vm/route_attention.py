"""Scan-route attention: how far a pixel's four outputs lie apart is how much their sum counts (arXiv 2406.05992)."""

from __future__ import annotations

import torch
from torch import Tensor

from mambasdk.nn import accumulate_dtype

_EPS = 1e-5
_ROUTES = 4


def route_attention(outputs: tuple[Tensor, Tensor, Tensor, Tensor], threshold: float) -> Tensor:
    """`sum * max(0, cv - threshold)` of the routes' outputs, each (…); float32, or float64 of such.

    cv: sample standard deviation over `mean(o - min(o)) + 1e-5`. Derivatives: of equal smallest outputs the first one
    counts; none comes from the deviation where all four are equal; none from below the threshold.
    """
    a, b, c, d = (accumulate_dtype(output) for output in outputs)
    least = _least(_least(a, b), _least(c, d))
    # From the smallest on one pass gives the deviation: one of the four is 0, so nothing cancels.
    above = [output - least for output in (a, b, c, d)]
    mean = _sum(above) / _ROUTES
    variance = (_sum([x * x for x in above]) - _ROUTES * (mean * mean)) / (_ROUTES - 1)
    weight = (_root(variance) / (mean + _EPS) - threshold).relu()
    return _sum([a, b, c, d]) * weight


def _sum(parts: list[Tensor]) -> Tensor:
    a, b, c, d = parts
    return (a + b) + (c + d)


def _least(first: Tensor, second: Tensor) -> Tensor:
    """The smaller one of each element; the derivative goes to the first where they are equal."""
    if not torch.is_grad_enabled():
        return torch.minimum(first, second)
    return torch.where(second < first, second, first)


def _root(variance: Tensor) -> Tensor:
    """Square root of what rounding may have brought below 0; derivative 0 there and at 0."""
    if not torch.is_grad_enabled():
        return variance.clamp(min=0).sqrt()
    some = variance > 0
    return torch.where(some, torch.where(some, variance, 1.0).sqrt(), 0.0)

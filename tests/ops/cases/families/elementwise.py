"""Arithmetic and functions of elements."""

from __future__ import annotations

from collections.abc import Mapping

from .. import draws
from ..case import Family

_QUOTIENT = Family(values={"x": draws.from_half, "y": draws.from_half})

FAMILIES: Mapping[str, Family] = {
    "divide": _QUOTIENT,
    "power": _QUOTIENT,
    "remainder": _QUOTIENT,
    "floor_divide": _QUOTIENT,
    **dict.fromkeys(("sqrt", "rsqrt", "log", "log1p", "reciprocal"), Family(values={"x": draws.from_half})),
    "clamp": Family(scalars=({"min": -0.5, "max": 0.8},)),
    "elu": Family(scalars=({"alpha": 0.3},)),
}

"""The sizes of cases: what dims and scalars are where nothing else is said, and dims that follow from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .case import Dims

DEFAULT_DIMS: Dims = {
    "I": 24,
    "O": 17,
    "V": 11,
    "B": 2,
    "L": 13,
    "D": 19,
    "N": 5,
    "K": 3,
    "G": 1,
    "H": 4,
    "P": 6,
    "S": 2,
    "E": 1,
    "M": 4,
    "W": 9,
}
# Scalars without a default.
SCALARS: dict[str, Any] = {
    "factor": -0.7,
    "scale": 0.4,
    "kernel_d": 2,
    "kernel_h": 3,
    "kernel_w": 2,
    "stride_d": 1,
    "stride_h": 2,
    "stride_w": 1,
    "depth": 3,
    "height": 5,
    "width": 4,
    "groups": 3,
    "before": 2,
    "after": 3,
    "k": 1,
}


def packed(dims: Dims, given: frozenset[str], _: Mapping[str, Any]) -> Dims:
    dims = dict(dims)
    dims["S"] = dims["B"]
    if "cu_seqlens" in given:
        dims |= {"B": 1, "S": 4}
    return dims


def slots(dims: Dims, given: frozenset[str], _: Mapping[str, Any]) -> Dims:
    """A pool has more slots than the batch has rows."""
    return {**dims, "S": dims["B"] + 2 if "state_indices" in given else dims["B"]}

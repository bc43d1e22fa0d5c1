"""Copies, joins, reductions, indexing and sorting along the rows of matrices."""

from __future__ import annotations

from collections.abc import Mapping

from .. import draws
from ..case import Dims, Family

_MATRICES: Mapping[str, Dims] = {
    "tail": {"L": 13, "D": 19},
    "run": {"L": 300, "D": 1},
    "parts": {"L": 600, "D": 5},
    "vector": {"L": 9, "D": 1050},
}
_INDEXED: Mapping[str, Dims] = {"tail": {"L": 13, "M": 4, "D": 19}, "elements": {"L": 13, "M": 20, "D": 1}}
_EXTREME = Family(dims=_MATRICES, nonempty=("L",))

FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("copy_indices", "from_indices", "narrow_indices"), Family(values={"x": draws.integers})),
    "from_mask": Family(values={"x": draws.flags}),
    "concat": Family(dims={"tail": {"L0": 5, "L1": 1, "L2": 2, "L4": 0, "D": 19}, "column": {"L0": 70, "D": 1}}),
    "pad": Family(
        dims={"tail": {"L": 13, "D": 19}, "run": {"L": 90, "D": 1}},
        scalars=({"mode": 1}, {"mode": 2}, {"mode": 3, "before": 0}, {"value": -1.5, "before": 1}),
    ),
    **dict.fromkeys(("sum_rows", "mean_rows", "cumulative_sum"), Family(dims=_MATRICES)),
    "product_rows": Family(dims=_MATRICES, values={"x": draws.around_1}),
    **dict.fromkeys(("max_rows", "min_rows", "argmax_rows", "argmin_rows"), _EXTREME),
    "gather": Family(dims=_INDEXED, nonempty=("L",), values={"index": draws.rows_of("L")}),
    **dict.fromkeys(
        ("scatter", "scatter_add", "scatter_max"), Family(dims=_INDEXED, values={"index": draws.rows_of("M")})
    ),
    "sort": Family(dims={"tail": {"L": 13}, "digits": {"L": 300}}),
    "topk": Family(
        dims={"tail": {"L": 13}, "cut": {"L": 300}},
        nonempty=("L",),
        scalars=({"k": 0}, {"k": 5}, {"k": 13, "largest": False}),
    ),
}

"""Products of matrices, attention and rotary positions."""

from __future__ import annotations

from collections.abc import Mapping

from .. import draws
from ..case import Family

_ACTIVATIONS = tuple({"activation": i, "slope": 0.2} for i in range(9))

FAMILIES: Mapping[str, Family] = {
    "pack_weights": Family(
        dims={
            "tail": {"O": 17, "K": 19},
            "panels": {"O": 70, "K": 40},
            "one": {"O": 1, "K": 1},
            "no-O": {"O": 0, "K": 3},
        }
    ),
    "linear_packed": Family(
        dims={
            "tail": {"K": 19, "features": 17},
            "panels": {"K": 130, "features": 70},
            "whole": {"K": 64, "features": 64},
        },
        scalars=(*_ACTIVATIONS, {"residual_last": True, "activation": 1}, {"residual_last": True, "activation": 4}),
    ),
    "grouped_linear": Family(
        dims={
            "tail": {"I": 19, "O": 17, "G": 3},
            "wide": {"I": 130, "O": 70, "G": 2},
            "absent": {"I": 8, "O": 5, "G": 40},
            "one": {"I": 64, "O": 33, "G": 1},
        },
        nonempty=("G",),
        values={"group": draws.rows_of("G")},
    ),
    "matmul": Family(
        dims={
            "tail": {"M": 5, "K": 7, "N": 6},
            "windows": {"M": 49, "K": 32, "N": 49},
            "wide": {"M": 70, "K": 200, "N": 170},
            "row": {"M": 1, "K": 33, "N": 40},
            "empty-sum": {"M": 3, "K": 0, "N": 4},
        },
    ),
    "attention": Family(
        dims={
            "tail": {"B": 2, "L": 13, "H": 4, "E": 6, "S": 17, "G": 2, "F": 5},
            "heads": {"B": 1, "L": 70, "H": 2, "E": 64, "S": 150, "G": 2, "F": 64},
            "decode": {"B": 2, "L": 1, "H": 6, "E": 40, "S": 300, "G": 2, "F": 70},
            "unseen": {"B": 1, "L": 9, "H": 1, "E": 4, "S": 5, "G": 1, "F": 4},
            "no-keys": {"B": 1, "L": 3, "H": 1, "E": 4, "S": 0, "G": 1, "F": 4},
        },
        scalars=(
            {"causal": True, "window": 3},
            {"causal": True, "window": 3, "with_probabilities": True},
            {"scale": -0.7, "with_probabilities": True},
        ),
    ),
    "rotary": Family(
        dims={
            "tail": {"B": 2, "L": 5, "H": 3, "E": 15, "R": 6},
            "whole": {"B": 2, "L": 3, "H": 2, "E": 64, "R": 32},
            "part": {"B": 1, "L": 3, "H": 2, "E": 80, "R": 20},
            "none": {"B": 1, "L": 3, "H": 2, "E": 6, "R": 0},
        },
    ),
}

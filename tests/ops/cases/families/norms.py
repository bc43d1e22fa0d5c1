"""Normalisations, softmax among them, and what scales and shifts channels."""

from __future__ import annotations

from collections.abc import Mapping

from ..case import Family

_NORM = Family(
    roundings=3,  # the sum with the residual, the value before the gate
    dims={"tail": {"D": 19}, "vector": {"D": 64}, "long": {"D": 300}},
    scalars=(
        {"norm_before_gate": False},
        {"eps": 0.1},
        {"sigmoid_gate": True},
        {"sigmoid_gate": True, "norm_before_gate": False},
    ),
)

FAMILIES: Mapping[str, Family] = {
    "group_norm": Family(
        dims={
            "tail": {"B": 2, "S": 13, "C": 9},
            "vector": {"B": 2, "S": 5, "C": 96},
            "parts": {"B": 1, "S": 300, "C": 21},
            "wide": {"B": 1, "S": 70, "C": 1200},
        },
        scalars=({"groups": 3}, {"groups": 9}, {"groups": 3, "eps": 0.1}),
    ),
    "scale_shift": Family(dims={"tail": {"C": 19}, "narrow": {"C": 3}, "vector": {"C": 64}}),
    **dict.fromkeys(("rms_norm", "layer_norm"), _NORM),
    "softmax": Family(dims={"tail": {"D": 19}, "vector": {"D": 64}, "pieces": {"D": 2100}}),
}

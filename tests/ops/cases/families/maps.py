"""Pools, resizing and sampling of maps."""

from __future__ import annotations

from collections.abc import Mapping

from ..case import Dims, Family

_MAPS: dict[str, Dims] = {
    "tail": {"B": 2, "D": 3, "H": 7, "W": 9, "C": 5},
    "vector": {"B": 1, "D": 2, "H": 5, "W": 6, "C": 160},
    "wide": {"B": 1, "D": 2, "H": 4, "W": 6, "C": 2100},
    "long": {"B": 1, "D": 2, "H": 3, "W": 1500, "C": 3},
}

FAMILIES: Mapping[str, Family] = {
    "max_pool": Family(
        dims=_MAPS,
        scalars=(
            {"padding_h": 1, "padding_w": 1, "padding_after_h": 2, "padding_after_w": 1, "dilation_w": 2},
            {"kernel_d": 1, "kernel_h": 3, "kernel_w": 3, "stride_w": 2, "dilation_h": 2, "padding_h": 2},
        ),
    ),
    "average_pool": Family(
        dims=_MAPS,
        scalars=(
            {"padding_h": 1, "padding_w": 1, "padding_after_h": 2, "padding_after_w": 1},
            {"padding_h": 1, "padding_w": 1, "padding_after_h": 2, "padding_after_w": 1, "count_padding": False},
            {"kernel_d": 1, "kernel_h": 3, "kernel_w": 3, "stride_w": 2, "divisor": 7},
        ),
    ),
    "adaptive_max_pool": Family(dims=_MAPS, scalars=({"depth": 1, "height": 1, "width": 1}, {"height": 9, "width": 2})),
    "adaptive_average_pool": Family(
        dims=_MAPS, scalars=({"depth": 1, "height": 1, "width": 1}, {"height": 9, "width": 2})
    ),
    "resize": Family(
        dims=_MAPS,
        scalars=(
            {"mode": 1},
            {"mode": 2},
            {"mode": 2, "align_corners": True, "height": 13, "width": 20},
            {"mode": 2, "scale_d": 0.7, "scale_h": 1.3, "scale_w": 0.45},
            {"scale_d": 0.7, "scale_h": 1.3, "scale_w": 0.45},
        ),
    ),
    "grid_sample": Family(
        dims={
            "tail": {"B": 2, "D": 1, "H": 7, "W": 9, "C": 5, "d": 1, "h": 6, "w": 25, "A": 2},
            "volume": {"B": 2, "D": 4, "H": 5, "W": 6, "C": 37, "d": 3, "h": 4, "w": 5, "A": 3},
        },
        scalars=tuple({"mode": mode, "padding_mode": padding} for mode in (0, 1, 2) for padding in (0, 1, 2)),
    ),
    "deformable_sample": Family(
        dims={
            "tail": {"B": 2, "H": 5, "W": 6, "C": 10, "E": 56},
            "vector": {"B": 1, "H": 9, "W": 4, "C": 96, "E": 27},
        },
        fix=lambda dims, given, scalars: {**dims, "h": dims["H"], "w": dims["W"]},
        scalars=({"groups": 2}, {"groups": 2, "offset_scale": 0.5}),
    ),
}

"""Convolutions: causal, over maps, with packed weights, and long ones by FFT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..case import Dims, Family
from ..sizes import packed

_PLACES: tuple[Mapping[str, Any], ...] = (
    {"padding_d": 1, "padding_h": 1, "padding_w": 2, "padding_after_h": 2, "padding_after_w": 1, "stride_w": 2},
    {"padding_h": 2, "padding_w": 2, "dilation_h": 2, "dilation_w": 2, "stride_h": 1, "activation": 1},
)
_GROUPS: tuple[Mapping[str, Any], ...] = (
    {"groups": 3, "padding_w": 1, "padding_h": 1, "activation": 4},
    {"groups": 6, "padding_w": 1, "padding_h": 1, "activation": 1},
    {"groups": 6, "stride_w": 2, "stride_d": 2, "dilation_h": 2, "padding_h": 1, "activation": 4},
)
_TRANSPOSED: tuple[Mapping[str, Any], ...] = (
    {"stride_h": 2, "stride_w": 2, "padding_h": 1, "padding_w": 1, "output_padding_w": 1, "activation": 1},
    {"stride_w": 3, "stride_h": 1, "dilation_h": 2, "dilation_w": 2, "stride_d": 2, "residual_last": True},
)
_MAP: Dims = {"B": 2, "D": 3, "H": 5, "W": 9, "C": 6}
_LINES: Dims = {"B": 1, "D": 1, "H": 6, "W": 33, "C": 20}
_KERNEL: Dims = {"kernel_d": 2, "kernel_h": 3, "kernel_w": 3}


def _step_dims(dims: Dims, given: frozenset[str], _: Mapping[str, Any]) -> Dims:
    """States of M inputs: as many as the window has, or `more`; a pool where they are indexed."""
    more = dims.pop("more", 0)
    return {**dims, "M": dims["K"] - 1 + more, "S": dims["B"] + 3 if "state_indices" in given else dims["B"]}


def _grouped(dims: Dims, _: frozenset[str], scalars: Mapping[str, Any]) -> Dims:
    """Channels of a group follow from their number; as many groups as channels are a depthwise convolution."""
    groups = scalars.get("groups", 1)
    if "O" in dims:
        return {**dims, "G": dims["C"] // groups, "O": dims["C"] if groups == dims["C"] else dims["O"]}
    return {**dims, "groups": groups, "G": 1 if groups == dims["C"] else dims["G"]}


FAMILIES: Mapping[str, Family] = {
    "causal_conv1d": Family(
        dims={
            "tail": {"B": 2, "L": 13, "D": 19, "K": 4},
            "width2": {"B": 1, "L": 7, "D": 64, "K": 2},
            "width8": {"B": 2, "L": 5, "D": 17, "K": 8},
            "width1": {"B": 2, "L": 5, "D": 17, "K": 1},
            "width9": {"B": 2, "L": 12, "D": 17, "K": 9},
            "tiles": {"B": 2, "L": 300, "D": 70, "K": 4},
        },
        fix=packed,
        structural=("residual",),  # the kernels of a call with one are others
        scalars=({"silu": True, "return_final_state": True, "reverse": True},),
    ),
    "causal_conv1d_update": Family(
        dims={
            "longer": {"B": 3, "D": 19, "K": 4, "more": 2},
            "tail": {"B": 3, "D": 19, "K": 4},
            "width1": {"B": 2, "D": 17, "K": 1},
            "width9": {"B": 2, "D": 17, "K": 9},
        },
        fix=_step_dims,
    ),
    "convolution": Family(
        dims={
            "tail": {**_MAP, "O": 9, "KD": 2, "KH": 3, "KW": 3},
            "plane": {**_LINES, "O": 40, "KD": 1, "KH": 3, "KW": 3},
            "narrow": {"B": 2, "D": 1, "H": 7, "W": 5, "C": 3, "O": 64, "KD": 1, "KH": 1, "KW": 1},
        },
        fix=_grouped,
        scalars=_PLACES + _GROUPS,
    ),
    "convolution_packed": Family(
        dims={
            "tail": {**_MAP, **_KERNEL, "features": 9},
            "plane": {**_LINES, "kernel_d": 1, "kernel_h": 3, "kernel_w": 3, "features": 40},
        },
        scalars=_PLACES,
    ),
    "convolution_transposed": Family(
        dims={
            "tail": {**_MAP, "G": 5, "KD": 2, "KH": 3, "KW": 3},
            "plane": {**_LINES, "G": 40, "KD": 1, "KH": 2, "KW": 2},
        },
        fix=_grouped,
        scalars=(*_TRANSPOSED, {"groups": 3, "stride_w": 2}, {"groups": 6, "padding_h": 1}),
    ),
    "convolution_transposed_packed": Family(
        dims={
            "tail": {**_MAP, **_KERNEL, "features": 9},
            "plane": {**_LINES, "kernel_d": 1, "kernel_h": 2, "kernel_w": 2, "features": 40},
        },
        scalars=_TRANSPOSED,
    ),
    "unfold2d": Family(
        dims={
            "tail": {"B": 2, "C": 3, "H": 7, "W": 9},
            "patches": {"B": 1, "C": 3, "H": 16, "W": 32},
        },
        scalars=(
            {"kernel_h": 8, "kernel_w": 8, "stride_h": 4, "stride_w": 8, "padding_h": 2},
            {"padding_h": 1, "padding_w": 2},
        ),
    ),
    "fft_convolution": Family(
        dims={
            "tail": {"B": 2, "L": 13, "D": 19, "K": 5},
            "direct": {"B": 1, "L": 530, "D": 16, "K": 70},
            "long": {"B": 2, "L": 300, "D": 19, "K": 310},
            "rows": {"B": 10, "L": 140, "D": 33, "K": 140},
            "more-steps": {"B": 1, "L": 900, "D": 16, "K": 130},
            "no-taps": {"B": 2, "L": 3, "D": 5, "K": 0},
        },
    ),
}

"""Sample calls of every registered operation, made from its signature.

A case fixes the dims, which optional arguments are given and the scalars; values are drawn for a choice of dtypes. What
a signature cannot say (positive steps, valid orders and offsets, dims that divide each other) stands in the tables
here; an operation that needs nothing of the kind gets its cases without an entry.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import abi
import tolerance
import torch

from mambasdk import ops, runtime
from mambasdk.ops._library import adapter
from mambasdk.ops._signature import DTYPES, Argument, Binding, Signature, accumulator, saved

Dims = dict[str, int]

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
# Optional arguments that change what other arguments look like; cases give them one at a time.
STRUCTURAL = ("order", "cu_seqlens", "seq_idx", "state_indices", "cache_seqlens")
VARIABLE_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Case:
    """One way to call an operation."""

    op: str
    id: str
    dims: Mapping[str, int]
    given: frozenset[str]  # optional tensors
    scalars: Mapping[str, Any]
    lead: tuple[int, ...] = (2, 3)

    @property
    def is_empty(self) -> bool:
        return 0 in self.dims.values() or 0 in self.lead

    def __str__(self) -> str:
        return f"{self.op}[{self.id}]"


Draw = Callable[[tuple[int, ...], Case, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Family:
    """What the signature of an operation does not say."""

    dims: Mapping[str, Dims] = field(default_factory=dict)  # profile -> dims
    fix: Callable[[Dims, frozenset[str], Mapping[str, Any]], Dims] | None = None
    scalars: tuple[Mapping[str, Any], ...] = ()  # further choices of scalars, tried with everything given
    structural: tuple[str, ...] = ()  # more of STRUCTURAL, for this family
    excluded: Callable[[frozenset[str], Mapping[str, Any]], bool] | None = None
    nonempty: tuple[str, ...] = ()  # dims of which an extent of 0 is an error
    values: Mapping[str, Draw] = field(default_factory=dict)  # argument -> how it is drawn, before VALUES
    # Roundings to a low-precision T in series; 1 is the result's own. More where a contract stores intermediates in T.
    roundings: int = 1
    product_roundings: int = 0  # more of them where operands of matrix products are rounded to bfloat16


def _scan_dims(dims: Dims, given: frozenset[str], scalars: Mapping[str, Any]) -> Dims:
    dims = dict(dims)
    if "order" in given:
        dims |= {"K": 2 if dims["K"] == 1 else dims["K"], "M": dims.get("M", dims["L"] + dims["L"] // 2)}
    else:
        dims["M"] = dims["L"]
    dims["P"] = dims["M"] if scalars.get("step_params") else dims["L"]
    return _packed(dims, given, scalars)


def _packed(dims: Dims, given: frozenset[str], _: Mapping[str, Any]) -> Dims:
    dims = dict(dims)
    dims["S"] = dims["B"]
    if "cu_seqlens" in given:
        dims |= {"B": 1, "S": 4}
    return dims


def _slots(dims: Dims, given: frozenset[str], _: Mapping[str, Any]) -> Dims:
    """A pool has more slots than the batch has rows."""
    return {**dims, "S": dims["B"] + 2 if "state_indices" in given else dims["B"]}


def _recurrence_dims(dims: Dims, given: frozenset[str], scalars: Mapping[str, Any]) -> Dims:
    """What is given per batch entry or per step follows the batch and the length."""
    dims = _packed(dims, given, scalars)
    return {**dims, **{d: dims[d[0]] for d in ("Ba", "La") if dims[d] != 1}}


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

ACTIVATIONS = tuple({"activation": i, "slope": 0.2} for i in range(9))
_MAPS: dict[str, Dims] = {
    "tail": {"B": 2, "D": 3, "H": 7, "W": 9, "C": 5},
    "vector": {"B": 1, "D": 2, "H": 5, "W": 6, "C": 160},
    "wide": {"B": 1, "D": 2, "H": 4, "W": 6, "C": 2100},
    "long": {"B": 1, "D": 2, "H": 3, "W": 1500, "C": 3},
}


def _from_half(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """Numbers of at least 1/2: where a logarithm, a root or a quotient has a value of moderate size."""
    return torch.randn(shape, generator=rng, dtype=torch.float64).abs() + 0.5


def _around_1(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """Numbers whose product of hundreds is of moderate size."""
    signs = torch.randint(0, 2, shape, generator=rng) * 2 - 1
    return signs * torch.exp(torch.randn(shape, generator=rng, dtype=torch.float64) * 0.05)


def _integers(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(-1000, 1000, shape, generator=rng)


def _flags(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=rng)


def _rows_of(dim: str) -> Draw:
    """Indices of rows of that dim, some more than once."""

    def draw(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
        return torch.randint(0, max(case.dims[dim], 1), shape, generator=rng)

    return draw


_MATRICES: Mapping[str, Dims] = {
    "tail": {"L": 13, "D": 19},
    "run": {"L": 300, "D": 1},
    "parts": {"L": 600, "D": 5},
    "vector": {"L": 9, "D": 1050},
}
_INDEXED: Mapping[str, Dims] = {"tail": {"L": 13, "M": 4, "D": 19}, "elements": {"L": 13, "M": 20, "D": 1}}
_EXTREME = Family(dims=_MATRICES, nonempty=("L",))
_QUOTIENT = Family(values={"x": _from_half, "y": _from_half})

FAMILIES: dict[str, Family] = {
    "selective_scan": Family(
        dims={
            "tail": {"B": 2, "L": 13, "D": 19, "N": 5, "K": 1, "G": 1},
            "groups": {"B": 1, "L": 9, "D": 36, "N": 16, "K": 2, "G": 2},
            "chunks": {"B": 1, "L": 270, "D": 33, "N": 16, "K": 1, "G": 1},
            "state1": {"B": 2, "L": 5, "D": 16, "N": 1, "K": 1, "G": 1},
            "step": {"B": 3, "L": 1, "D": 38, "N": 5, "K": 1, "G": 2},
        },
        fix=_scan_dims,
        scalars=(
            {"delta_softplus": True, "return_final_state": True},
            {"delta_softplus": True, "step_params": True, "save_chunk_states": True, "return_final_state": True},
            {"delta_softplus": True, "save_chunk_states": True, "return_final_state": True, "reverse": True},
        ),
        excluded=lambda given, scalars: bool(scalars.get("step_params")) and "order" not in given,
    ),
    "selective_state_update": Family(
        dims={"tail": {"B": 3, "D": 38, "N": 5, "G": 2}, "vector": {"D": 64, "N": 16}}, fix=_slots
    ),
    "ssd": Family(
        roundings=2,  # the value before the gate
        product_roundings=3,  # dt * x, the decayed scores, the state
        dims={
            "tail": {"B": 2, "L": 13, "H": 4, "P": 6, "G": 2, "N": 5},
            "chunks": {"B": 1, "L": 300, "H": 2, "P": 32, "G": 1, "N": 16},
            "wide": {"B": 1, "L": 70, "H": 3, "P": 64, "G": 1, "N": 128},
            "step": {"B": 3, "L": 1, "H": 4, "P": 6, "G": 2, "N": 5},
        },
        fix=_packed,
        scalars=(
            {"dt_softplus": True, "dt_min": 0.05, "dt_max": 0.9, "return_final_state": True},
            {"dt_softplus": True, "reverse": True, "return_final_state": True},
            {"dt_softplus": True, "dt_on_x": False, "return_final_state": True},
        ),
    ),
    "ssd_state_update": Family(
        roundings=2,
        product_roundings=3,
        dims={"tail": {"B": 3, "H": 4, "P": 6, "G": 2, "N": 5}, "wide": {"H": 2, "P": 64, "N": 128}},
        fix=_slots,
        scalars=({"dt_softplus": True, "dt_min": 0.05, "dt_max": 0.9}, {"dt_on_x": False}),
    ),
    "causal_conv1d": Family(
        dims={
            "tail": {"B": 2, "L": 13, "D": 19, "K": 4},
            "width2": {"B": 1, "L": 7, "D": 64, "K": 2},
            "width8": {"B": 2, "L": 5, "D": 17, "K": 8},
            "width1": {"B": 2, "L": 5, "D": 17, "K": 1},
            "width9": {"B": 2, "L": 12, "D": 17, "K": 9},
            "tiles": {"B": 2, "L": 300, "D": 70, "K": 4},
        },
        fix=_packed,
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
        scalars=(*ACTIVATIONS, {"residual_last": True, "activation": 1}, {"residual_last": True, "activation": 4}),
    ),
    "grouped_linear": Family(
        dims={
            "tail": {"I": 19, "O": 17, "G": 3},
            "wide": {"I": 130, "O": 70, "G": 2},
            "absent": {"I": 8, "O": 5, "G": 40},
            "one": {"I": 64, "O": 33, "G": 1},
        },
        nonempty=("G",),
        values={"group": _rows_of("G")},
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
    "divide": _QUOTIENT,
    "power": _QUOTIENT,
    "remainder": _QUOTIENT,
    "floor_divide": _QUOTIENT,
    **dict.fromkeys(("sqrt", "rsqrt", "log", "log1p", "reciprocal"), Family(values={"x": _from_half})),
    "clamp": Family(scalars=({"min": -0.5, "max": 0.8},)),
    "elu": Family(scalars=({"alpha": 0.3},)),
    **dict.fromkeys(("copy_indices", "from_indices", "narrow_indices"), Family(values={"x": _integers})),
    "from_mask": Family(values={"x": _flags}),
    "concat": Family(dims={"tail": {"L0": 5, "L1": 1, "L2": 2, "L4": 0, "D": 19}, "column": {"L0": 70, "D": 1}}),
    "pad": Family(
        dims={"tail": {"L": 13, "D": 19}, "run": {"L": 90, "D": 1}},
        scalars=({"mode": 1}, {"mode": 2}, {"mode": 3, "before": 0}, {"value": -1.5, "before": 1}),
    ),
    **dict.fromkeys(("sum_rows", "mean_rows", "cumulative_sum"), Family(dims=_MATRICES)),
    "product_rows": Family(dims=_MATRICES, values={"x": _around_1}),
    "softmax": Family(dims={"tail": {"D": 19}, "vector": {"D": 64}, "pieces": {"D": 2100}}),
    "gather": Family(dims=_INDEXED, nonempty=("L",), values={"index": _rows_of("L")}),
    **dict.fromkeys(("scatter", "scatter_add", "scatter_max"), Family(dims=_INDEXED, values={"index": _rows_of("M")})),
    "sort": Family(dims={"tail": {"L": 13}, "digits": {"L": 300}}),
    "topk": Family(
        dims={"tail": {"L": 13}, "cut": {"L": 300}},
        nonempty=("L",),
        scalars=({"k": 0}, {"k": 5}, {"k": 13, "largest": False}),
    ),
    **dict.fromkeys(("max_rows", "min_rows", "argmax_rows", "argmin_rows"), _EXTREME),
    "diagonal_scan": Family(
        dims={
            "tail": {"B": 2, "L": 13, "D": 19, "Ba": 2, "La": 13},
            "constant": {"B": 2, "L": 9, "D": 64, "Ba": 1, "La": 1},
            "shared": {"B": 2, "L": 9, "D": 5, "Ba": 1, "La": 9},
            "long": {"B": 1, "L": 300, "D": 40, "Ba": 1, "La": 300},
        },
        fix=_recurrence_dims,
        scalars=({"reverse": True, "return_final_state": True},),
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
    "gru": Family(
        dims={
            "tail": {"B": 3, "L": 7, "N": 5},
            "vector": {"B": 2, "L": 4, "N": 32},
            "rows": {"B": 19, "L": 3, "N": 21},
            "split": {"B": 2, "L": 3, "N": 256},
        },
    ),
    "rotary": Family(
        dims={
            "tail": {"B": 2, "L": 5, "H": 3, "E": 15, "R": 6},
            "whole": {"B": 2, "L": 3, "H": 2, "E": 64, "R": 32},
            "part": {"B": 1, "L": 3, "H": 2, "E": 80, "R": 20},
            "none": {"B": 1, "L": 3, "H": 2, "E": 6, "R": 0},
        },
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
    "rms_norm": Family(
        roundings=3,  # the sum with the residual, the value before the gate
        dims={"tail": {"D": 19}, "vector": {"D": 64}, "long": {"D": 300}},
        scalars=(
            {"norm_before_gate": False},
            {"eps": 0.1},
            {"sigmoid_gate": True},
            {"sigmoid_gate": True, "norm_before_gate": False},
        ),
    ),
    "layer_norm": Family(
        roundings=3,  # the sum with the residual, the value before the gate
        dims={"tail": {"D": 19}, "vector": {"D": 64}, "long": {"D": 300}},
        scalars=(
            {"norm_before_gate": False},
            {"eps": 0.1},
            {"sigmoid_gate": True},
            {"sigmoid_gate": True, "norm_before_gate": False},
        ),
    ),
}


# ---- values ----


def _steps(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Raw step sizes: any sign before softplus, positive without."""
    raw = torch.randn(shape, generator=rng, dtype=torch.float64) * 0.7
    softplus = case.scalars.get("delta_softplus") or case.scalars.get("dt_softplus")
    return raw - 0.5 if softplus else raw.abs() + 0.05


def _decays(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return -(torch.rand(shape, generator=rng, dtype=torch.float64) * 1.5 + 0.1)


def _rates(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """Factors of a recurrence, below 1 in size; real, so that they fit a real and a complex dtype."""
    return torch.rand(shape, generator=rng, dtype=torch.float64) * 1.8 - 0.9


def _bias(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=rng, dtype=torch.float64) * 0.3


def _orders(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Each route visits every position where it has the steps for it, and some twice where it has more."""
    routes, steps = shape
    length = case.dims["L"]
    rows = []
    for _ in range(routes):
        visits = [torch.randperm(length, generator=rng) for _ in range(-(-steps // max(length, 1)))]
        rows.append(torch.cat(visits)[:steps] if visits else torch.empty(0, dtype=torch.int64))
    return torch.stack(rows).to(torch.int32) if rows else torch.empty(shape, dtype=torch.int32)


def _offsets(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Sequences of several lengths, an empty one among them."""
    total = case.dims.get("M", case.dims["L"])
    inner = torch.randint(0, total + 1, (max(shape[0] - 2, 0),), generator=rng)
    if len(inner) > 1:
        inner[1] = inner[0]
    return torch.cat([torch.tensor([0]), inner.sort().values, torch.tensor([total])]).to(torch.int32)


def _segments(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Runs of several lengths; -1 is the first of them, and padding for the convolution."""
    first = -1 if case.op == "causal_conv1d" else 0
    segments = torch.randint(first, 4, shape, generator=rng).sort(dim=-1).values
    if case.op == "causal_conv1d" and shape[-1] > 2:
        segments[..., shape[-1] // 2] = -1  # padding in between too
    return segments.to(torch.int32)


def _seen(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 20, shape, generator=rng).to(torch.int32)


def _state_indices(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """A slot of its own for every row; the second row is padded."""
    slots = torch.randperm(case.dims["S"], generator=rng)[: shape[0]].to(torch.int32)
    slots[1:2] = -1
    return slots


def _lengths(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Steps of each row, some of them all, some none."""
    lengths = torch.randint(0, case.dims["L"] + 1, shape, generator=rng)
    lengths[:1] = case.dims["L"]
    lengths[-1:] = 0
    return lengths.to(torch.int32)


def _weights(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Normal; those of a recurrence are as a network's, or it would amplify every rounding from step to step."""
    scale = case.dims["N"] ** -0.5 if case.op == "gru" and case.dims["N"] else 1.0
    return torch.randn(shape, generator=rng, dtype=torch.float64) * scale


def _indices(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, max(case.dims.get("V", 1), 1), shape, generator=rng)


def _grid(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """Coordinates inside of the map, and some outside."""
    return torch.rand(shape, generator=rng, dtype=torch.float64) * 3 - 1.5


VALUES: dict[str, Draw] = {
    "delta": _steps,
    "dt": _steps,
    "A": _decays,
    "a": _rates,
    "delta_bias": _bias,
    "dt_bias": _bias,
    "order": _orders,
    "cu_seqlens": _offsets,
    "seq_idx": _segments,
    "state_indices": _state_indices,
    "cache_seqlens": _seen,
    "indices": _indices,
    "lengths": _lengths,
    "weight": _weights,
    "grid": _grid,
}


# ---- cases ----


def signature(op: str) -> Signature:
    return adapter.signature(op)


def forward_ops() -> list[str]:
    """The SDK's operations that are no derivative of another; plugins may have brought more to this process."""
    names = [op["name"] for op in runtime.list_ops() if op["origin"] == "mambasdk"]
    return [n for n in names if not (n.endswith("_backward") and n.removesuffix("_backward") in names)]


def differentiable_ops() -> list[str]:
    return [n for n in forward_ops() if f"{n}_backward" in ops.list_ops()]


def cases(op: str) -> list[Case]:
    """All cases of an operation that is not a derivative."""
    return list(_cases(op))


def _cases(op: str) -> Iterator[Case]:
    s = signature(op)
    family = FAMILIES.get(op, Family())
    optional = [a.name for a in s.inputs if a.is_tensor and a.optional]
    flags = [a.name for a in s.inputs if a.kind == "bool"]
    # In the order of the signature: the cases are the same in every process.
    shapes = [a.shape for a in (*s.inputs, *s.outputs)]
    names = dict.fromkeys(d for shape in shapes for e in shape for d in e.postfix if _is_dim(d))
    profiles = dict(family.dims) or {"tail": {}}
    apart = (*STRUCTURAL, *family.structural)
    plain = frozenset(o for o in optional if o not in apart)
    on = {f: True for f in flags if f not in ("step_params", "reverse", "dt_on_x", "norm_before_gate", "sigmoid_gate")}

    def make(
        name: str, dims: Dims, given: frozenset[str], scalars: Mapping[str, Any], lead: tuple[int, ...] = (2, 3)
    ) -> Any:
        if family.excluded is not None and family.excluded(given, scalars):
            return
        full = {**{d: DEFAULT_DIMS.get(d, 3) for d in names}, **dims}
        if family.fix is not None:
            full = family.fix(full, given, scalars)
        yield Case(op, name, full, given, dict(scalars), lead)

    first = next(iter(profiles.values()))
    for profile, dims in profiles.items():
        yield from make(f"{profile}-all", dims, plain, on)
    yield from make("bare", first, frozenset(), {})
    for name in optional:
        structural = name in apart
        yield from make(
            f"with-{name}", first, (plain if structural else frozenset()) | {name}, on if structural else {}
        )
    for flag in flags:
        yield from make(f"flag-{flag}", first, frozenset(), {flag: not _default(s, flag)})
    for i, scalars in enumerate(family.scalars):
        yield from make(f"scalars{i}", first, plain | ({"order"} if "step_params" in scalars else set()), scalars)
    if {"order", "cu_seqlens"} <= set(optional):
        yield from make("order-packed", first, plain | {"order", "cu_seqlens"}, on)
    if "reverse" in flags and "cu_seqlens" in optional:
        yield from make("reverse-packed", first, plain | {"cu_seqlens"}, {**on, "reverse": True})
        if "order" in optional:
            yield from make("reverse-order", first, plain | {"order"}, {**on, "reverse": True})
    for dim in ("L", "B"):
        if dim in names and dim not in family.nonempty:
            yield from make(f"no-{dim}", {**first, dim: 0}, plain, on)
    if "L" in names:
        yield from make("one-step", {**first, "L": 1}, plain, on)
    if any(a.variadic for a in s.inputs):
        yield from make("no-rows", first, plain, on, lead=(0,))
        yield from make("one-row", first, plain, on, lead=())


def _default(s: Signature, name: str) -> Any:
    a = s.input(name)
    assert a is not None
    return bool(a.default)


def _is_dim(term: int | str) -> bool:
    """Whether a term of an extent is a dim; operators are none, and integer arguments have names in lower case."""
    return isinstance(term, str) and term.isalnum() and term[0].isupper()


def gradient_cases(op: str) -> list[Case]:
    """Small cases for gradcheck and opcheck."""
    return [c for c in cases(op) if c.dims.get("L", 0) <= 13 and c.dims.get("N", 0) <= 16 and c.dims.get("D", 0) <= 70]


# ---- dtypes ----

Types = Mapping[str, torch.dtype]


def type_choices(op: str) -> dict[str, Types]:
    """Dtypes for the type variables: all the same, and low-precision T beside float32 for the others."""
    s = signature(op)
    variables = sorted({a.dtype for a in (*s.inputs, *s.outputs) if a.dtype_kind == "variable"})
    if not variables:
        return {"fixed": {}}
    choices: dict[str, Types] = {}
    for dtype in VARIABLE_DTYPES:
        name = str(dtype).removeprefix("torch.")
        choices[name] = dict.fromkeys(variables, dtype)
        others = [v for v in variables if v != "T"]
        if dtype != torch.float32 and others and "T" in variables:
            choices[f"{name}-mixed"] = {"T": dtype, **dict.fromkeys(others, torch.float32)}
    if any(v.startswith("Z") for v in variables):
        choices["complex64"] = {v: torch.complex64 if v.startswith("Z") else torch.float32 for v in variables}
    return choices


def double_types(op: str) -> Types:
    return dict.fromkeys({a.dtype for a in signature(op).inputs if a.dtype_kind == "variable"}, torch.float64)


def floor(op: str, types: Types) -> float:
    """The tolerance that a kernel of this operation has beside the dtypes of its outputs."""
    family = FAMILIES.get(op.removesuffix("_backward"), Family())
    return tolerance.floor(types.get("T"), family.roundings, family.product_roundings)


def _dtype(a: Argument, types: Types) -> torch.dtype | None:
    if a.dtype_kind == "variable":
        return types[a.dtype]
    if a.dtype_kind == "accumulator":
        return accumulator(types.get(a.follows, torch.float32))
    if a.dtype_kind == "saved":
        return saved(types.get(a.follows, torch.float32))
    return None


def _scalar(a: Argument, case: Case) -> Any:
    """An integer that is an extent is that of the case."""
    own = a.default if a.has_default else SCALARS.get(a.name)
    return case.scalars.get(a.name, case.dims.get(a.name, own))


def known_dims(case: Case) -> Dims:
    """The case's dims, and the integers that are dims by being arguments."""
    return {**{a.name: _scalar(a, case) for a in signature(case.op).inputs if a.kind == "int"}, **case.dims}


def _shape(a: Argument, case: Case) -> tuple[int, ...]:
    dims = known_dims(case)
    extents = tuple(e.evaluate(dims) for e in a.shape)
    assert None not in extents, f"{case}: the extent of {a.name} is unknown; add its dims to cases.FAMILIES"
    return (*case.lead, *extents) if a.variadic else extents


def values(case: Case, types: Types) -> dict[str, Any]:
    """Arguments by name, the same numbers for every choice of dtypes (before rounding to it)."""
    s = signature(case.op)
    out: dict[str, Any] = {}
    for a in s.inputs:
        if not a.is_tensor:
            out[a.name] = _scalar(a, case)
            continue
        if a.optional and a.name not in case.given:
            out[a.name] = None
            continue
        rng = torch.Generator().manual_seed(zlib.crc32(f"{case.op}/{case.id}/{a.name}".encode()))
        out[a.name] = _draw(a, case, types, rng)
    return out


def _draw(a: Argument, case: Case, types: Types, rng: torch.Generator) -> torch.Tensor:
    shape = _shape(a, case)
    draw = FAMILIES.get(case.op, Family()).values.get(a.name, VALUES.get(a.name))
    dtype = _dtype(a, types)
    if draw is not None:
        value = draw(shape, case, rng)
        return value.to(DTYPES[a.dtype] if dtype is None else dtype)
    if dtype is None:
        dtype = DTYPES[a.dtype]
        known = dtype.is_floating_point or dtype.is_complex
        assert known, f"{case}: no values for the {a.dtype} argument {a.name}; add them to cases.VALUES"
    complex_ = dtype.is_complex
    return torch.randn(shape, generator=rng, dtype=torch.complex128 if complex_ else torch.float64).to(dtype)


def backward_case(case: Case, types: Types) -> tuple[str, dict[str, Any]]:
    """The derivative's name, and arguments for it by name: outputs come from the reference in float64."""
    s = signature(case.op)
    backward = signature(f"{case.op}_backward")
    inputs = values(case, types)
    scalars = {o.condition: True for o in s.outputs if (o.condition or "").startswith("save_")}
    saving = replace(case, scalars={**case.scalars, **scalars})
    stored = {**inputs, **{k: v for k, v in saving.scalars.items() if k in inputs}}
    exact = abi.call(case.op, list(widened(case.op, stored).values()), abi.REFERENCE)
    binding = Binding(s, stored)
    known = dict(stored)
    grads: dict[str, Any] = {}
    for output, plan, value in zip(s.outputs, binding.plan(), exact, strict=True):
        known[output.name] = None if value is None else value.to(plan.dtype)
        rng = torch.Generator().manual_seed(zlib.crc32(f"{case.op}/{case.id}/grad_{output.name}".encode()))
        if value is not None and (value.is_floating_point() or value.is_complex()):
            grads[f"grad_{output.name}"] = torch.randn(value.shape, generator=rng, dtype=value.dtype).to(plan.dtype)
    return backward.name, {a.name: grads.get(a.name) if a.name not in known else known[a.name] for a in backward.inputs}


def widened(op: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same numbers in float64 (complex128), where the signature leaves the dtype open."""
    out: dict[str, Any] = {}
    for a in signature(op).inputs:
        value = arguments[a.name]
        if isinstance(value, torch.Tensor) and a.dtype_kind != "fixed":
            value = value.to(torch.complex128 if value.is_complex() else torch.float64)
        out[a.name] = value
    return out

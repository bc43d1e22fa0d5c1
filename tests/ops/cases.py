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

from mambasdk import ops
from mambasdk.ops._library import adapter
from mambasdk.ops._signature import DTYPES, Argument, Binding, Signature, accumulator

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
SCALARS: dict[str, Any] = {"factor": -0.7, "kernel_h": 3, "kernel_w": 2, "stride_h": 2, "stride_w": 1}
# Optional arguments that change what other arguments look like; cases give them one at a time.
STRUCTURAL = ("order", "cu_seqlens", "seq_idx")
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


@dataclass(frozen=True)
class Family:
    """What the signature of an operation does not say."""

    dims: Mapping[str, Dims] = field(default_factory=dict)  # profile -> dims
    fix: Callable[[Dims, frozenset[str], Mapping[str, Any]], Dims] | None = None
    scalars: tuple[Mapping[str, Any], ...] = ()  # further choices of scalars, tried with everything given
    excluded: Callable[[frozenset[str], Mapping[str, Any]], bool] | None = None
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


def _recurrence_dims(dims: Dims, _: frozenset[str], __: Mapping[str, Any]) -> Dims:
    """What is given per batch entry or per step follows the batch and the length."""
    return {**dims, **{d: dims[d[0]] for d in ("Ba", "La") if dims[d] != 1}}


FAMILIES: dict[str, Family] = {
    "selective_scan": Family(
        dims={
            "tail": {"B": 2, "L": 13, "D": 19, "N": 5, "K": 1, "G": 1},
            "groups": {"B": 1, "L": 9, "D": 36, "N": 16, "K": 2, "G": 2},
            "chunks": {"B": 1, "L": 270, "D": 33, "N": 16, "K": 1, "G": 1},
            "state1": {"B": 2, "L": 5, "D": 16, "N": 1, "K": 1, "G": 1},
        },
        fix=_scan_dims,
        scalars=(
            {"delta_softplus": True, "step_params": True, "save_chunk_states": True, "return_final_state": True},
            {"delta_softplus": True, "save_chunk_states": True, "return_final_state": True, "reverse": True},
        ),
        excluded=lambda given, scalars: bool(scalars.get("step_params")) and "order" not in given,
    ),
    "selective_state_update": Family(dims={"tail": {"B": 3, "D": 38, "N": 5, "G": 2}, "vector": {"D": 64, "N": 16}}),
    "ssd": Family(
        roundings=2,  # the value before the gate
        product_roundings=3,  # dt * x, the decayed scores, the state
        dims={
            "tail": {"B": 2, "L": 13, "H": 4, "P": 6, "G": 2, "N": 5},
            "chunks": {"B": 1, "L": 300, "H": 2, "P": 32, "G": 1, "N": 16},
            "wide": {"B": 1, "L": 70, "H": 3, "P": 64, "G": 1, "N": 128},
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
        scalars=({"dt_softplus": True, "dt_min": 0.05, "dt_max": 0.9}, {"dt_on_x": False}),
    ),
    "causal_conv1d": Family(
        dims={
            "tail": {"B": 2, "L": 13, "D": 19, "K": 4},
            "width2": {"B": 1, "L": 7, "D": 64, "K": 2},
            "width8": {"B": 2, "L": 5, "D": 17, "K": 8},
            "tiles": {"B": 2, "L": 300, "D": 70, "K": 4},
        },
        fix=_packed,
        scalars=({"silu": True, "return_final_state": True, "reverse": True},),
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
    "rms_norm": Family(
        roundings=3,  # the sum with the residual, the value before the gate
        dims={"tail": {"D": 19}, "vector": {"D": 64}, "long": {"D": 300}},
        scalars=({"norm_before_gate": False}, {"eps": 0.1}),
    ),
    "layer_norm": Family(
        roundings=3,  # the sum with the residual, the value before the gate
        dims={"tail": {"D": 19}, "vector": {"D": 64}, "long": {"D": 300}},
        scalars=({"norm_before_gate": False}, {"eps": 0.1}),
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
    return torch.stack(rows).to(torch.int32)


def _offsets(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Sequences of several lengths, an empty one among them."""
    total = case.dims.get("M", case.dims["L"])
    inner = torch.randint(0, total + 1, (max(shape[0] - 2, 0),), generator=rng)
    if len(inner) > 1:
        inner[1] = inner[0]
    return torch.cat([torch.tensor([0]), inner.sort().values, torch.tensor([total])]).to(torch.int32)


def _segments(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 4, shape, generator=rng).sort(dim=-1).values.to(torch.int32)


def _indices(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, max(case.dims.get("V", 1), 1), shape, generator=rng)


VALUES: dict[str, Callable[[tuple[int, ...], Case, torch.Generator], torch.Tensor]] = {
    "delta": _steps,
    "dt": _steps,
    "A": _decays,
    "a": _rates,
    "delta_bias": _bias,
    "dt_bias": _bias,
    "order": _orders,
    "cu_seqlens": _offsets,
    "seq_idx": _segments,
    "indices": _indices,
}


# ---- cases ----


def signature(op: str) -> Signature:
    return adapter.signature(op)


def forward_ops() -> list[str]:
    """Operations that are no derivative of another."""
    names = ops.list_ops()
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
    names = {
        d for a in (*s.inputs, *s.outputs) for e in a.shape for d in e.postfix if isinstance(d, str) and d.isalpha()
    }
    profiles = dict(family.dims) or {"tail": {}}
    plain = frozenset(o for o in optional if o not in STRUCTURAL)
    on = {f: True for f in flags if f not in ("step_params", "reverse", "dt_on_x", "norm_before_gate")}

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
        structural = name in STRUCTURAL
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
        if dim in names:
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
    return None


def _shape(a: Argument, case: Case) -> tuple[int, ...]:
    extents = tuple(e.evaluate(case.dims) for e in a.shape)
    assert None not in extents, f"{case}: the extent of {a.name} is unknown; add its dims to cases.FAMILIES"
    return (*case.lead, *extents) if a.variadic else extents


def values(case: Case, types: Types) -> dict[str, Any]:
    """Arguments by name, the same numbers for every choice of dtypes (before rounding to it)."""
    s = signature(case.op)
    out: dict[str, Any] = {}
    for a in s.inputs:
        if not a.is_tensor:
            out[a.name] = case.scalars.get(a.name, SCALARS.get(a.name, a.default))
            continue
        if a.optional and a.name not in case.given:
            out[a.name] = None
            continue
        rng = torch.Generator().manual_seed(zlib.crc32(f"{case.op}/{case.id}/{a.name}".encode()))
        out[a.name] = _draw(a, case, types, rng)
    return out


def _draw(a: Argument, case: Case, types: Types, rng: torch.Generator) -> torch.Tensor:
    shape = _shape(a, case)
    draw = VALUES.get(a.name)
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
        if isinstance(value, torch.Tensor) and a.dtype_kind in ("variable", "accumulator"):
            value = value.to(torch.complex128 if value.is_complex() else torch.float64)
        out[a.name] = value
    return out

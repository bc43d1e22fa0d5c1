"""Arguments of a case for a choice of dtypes, and of its derivative."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import abi
import tolerance
import torch

from mambasdk.ops._signature import DTYPES, Argument, Binding, accumulator, saved

from .case import Case, Dims, Family
from .draws import VALUES
from .families import FAMILIES
from .of_signature import signature
from .sizes import SCALARS

Types = Mapping[str, torch.dtype]
VARIABLE_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


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
    assert None not in extents, f"{case}: the extent of {a.name} is unknown; add its dims to cases/families"
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
        assert known, f"{case}: no values for the {a.dtype} argument {a.name}; add them to cases/draws.py"
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

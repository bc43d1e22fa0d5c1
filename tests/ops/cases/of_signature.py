"""The operations there are, and the cases of each: from its signature and its entry in `families`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mambasdk import ops, runtime
from mambasdk.ops._library import adapter
from mambasdk.ops._signature import Signature

from .case import Case, Dims, Family
from .families import FAMILIES
from .sizes import DEFAULT_DIMS

# Optional arguments that change what other arguments look like; cases give them one at a time.
STRUCTURAL = ("order", "cu_seqlens", "seq_idx", "state_indices", "cache_seqlens")


def signature(op: str) -> Signature:
    return adapter.signature(op)


def forward_ops() -> list[str]:
    """The SDK's operations that are no derivative of another; plugins may have brought more to this process."""
    names = [op["name"] for op in runtime.list_ops() if op["origin"] == "mambasdk"]
    return [n for n in names if not (n.endswith("_backward") and n.removesuffix("_backward") in names)]


def differentiable_ops() -> list[str]:
    known = set(ops.list_ops())
    return [n for n in forward_ops() if f"{n}_backward" in known]


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

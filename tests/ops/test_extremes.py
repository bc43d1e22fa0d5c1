"""Integers at their extremes, in arguments, extents and indices: the right answer or an error by name."""

from __future__ import annotations

import itertools
import math
from typing import Any

import abi
import cases
import pytest
import torch
from guard_pages import GuardPages
from isolation import Step, isolated
from tolerance import assert_close

from mambasdk import ops
from mambasdk.ops._library import adapter
from mambasdk.ops._signature import Binding

ALL = ops.list_ops()
OPS = cases.forward_ops()
EXTREMES = (0, -1, 1, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63))
MOST_BYTES = 1 << 26  # larger results are planned, not computed


def _good(op: str) -> dict[str, Any]:
    forward = op.removesuffix("_backward") if op not in OPS else op
    case = cases.cases(forward)[0]
    types = cases.type_choices(forward).get("float32", {})
    good = cases.values(case, types) if op == forward else cases.backward_case(case, types)[1]
    return {**good, "eps": 1.0} if "eps" in good else good  # a group of one channel has no variance


def _plan(op: str, arguments: dict[str, Any]) -> list[Any] | str:
    try:
        return abi.plan(op, list(arguments.values()))
    except abi.AbiError as error:
        return str(error)


def _small(plan: list[Any]) -> bool:
    return sum(math.prod(shape) * dtype.itemsize for dtype, shape, _ in plan) <= MOST_BYTES


def _call(op: str, arguments: dict[str, Any], kernel: int, pages: GuardPages | None = None) -> list[Any] | str:
    try:
        return abi.call(op, list(arguments.values()), kernel, pages)
    except abi.AbiError as error:
        return str(error)


def _right_or_refused(op: str, arguments: dict[str, Any], what: str) -> None:
    """Between guard pages, the kernel agrees with the reference, or both refuse by name."""
    for low in (False, True):
        pages = GuardPages(low)
        placed = {k: pages.place(v) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
        actual, reference = (_call(op, placed, kernel, pages) for kernel in (abi.AUTOMATIC, abi.REFERENCE))
        if isinstance(actual, str) or isinstance(reference, str):
            assert actual == reference, f"{what}: {actual} and {reference}"
            assert str(actual).startswith(f"{op}: "), f"{what}: {actual}"
        else:
            for output, a, b in zip(adapter.signature(op).outputs, actual, reference, strict=True):
                if a is not None:
                    floor = cases.floor(op, {"T": torch.float32})
                    assert_close(a, b.double() if b.is_floating_point() else b, f"{what}: {output.name}", floor)
        pages.close()


@pytest.mark.parametrize("op", [op for op in ALL if any(a.kind == "int" for a in adapter.signature(op).inputs)])
def test_integer_arguments(op: str) -> None:
    """One and two integers at every extreme."""
    good = _good(op)
    names = [a.name for a in adapter.signature(op).inputs if a.kind == "int"]
    changes: list[dict[str, int]] = [{n: v} for n in names for v in EXTREMES]
    for a, b in itertools.combinations(names, 2):
        changes += [{a: x, b: y} for x in EXTREMES for y in EXTREMES]

    def run(step: Step) -> None:
        for change in changes:
            arguments = {**good, **change}
            step(f"{op} {change}")
            plan = _plan(op, arguments)
            if isinstance(plan, str):
                assert plan.startswith(f"{op}: "), f"{change}: {plan}"
                assert _traced(op, arguments) == plan, f"{change}: traced: {_traced(op, arguments)}, called: {plan}"
            elif _small(plan):
                _right_or_refused(op, arguments, f"{op} {change}")

    isolated(run, 300)


def _traced(op: str, arguments: dict[str, Any]) -> str:
    """The error of the shape function."""
    try:
        Binding(adapter.signature(op), arguments).plan()
    except ValueError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize("op", OPS)
def test_extents_of_a_dim(op: str) -> None:
    """A dim at its extremes wherever it stands, with stride 0: outputs that memory could have, or a refusal by name."""
    case = cases.cases(op)[0]
    types = cases.type_choices(op).get("float32", {})
    good = cases.values(case, types)
    signature = adapter.signature(op)

    def run(step: Step) -> None:
        for dim, extent in itertools.product(case.dims, EXTREMES):
            step(f"{op} {dim}={extent}")
            forged = {**good}
            for a in signature.inputs:
                if a.is_tensor and good[a.name] is not None:
                    lead = case.lead if a.variadic else ()
                    extents = [e.evaluate({**case.dims, dim: extent}) for e in a.shape]
                    forged[a.name] = _forged(good[a.name], (*lead, *(extent if n is None else n for n in extents)))
            _plan_is_possible(op, forged, f"{op} {dim}={extent}")

    isolated(run, 120)


@pytest.mark.parametrize("op", ALL)
def test_extents_of_one_tensor(op: str) -> None:
    """Each extent of each tensor at its extremes, against the other tensors: the same."""
    good = _good(op)

    def run(step: Step) -> None:
        for name, value in good.items():
            if not isinstance(value, torch.Tensor):
                continue
            for d, extent in itertools.product(range(value.dim()), EXTREMES):
                step(f"{op} {name} dim {d} = {extent}")
                shape = (*value.shape[:d], extent, *value.shape[d + 1 :])
                _plan_is_possible(op, {**good, name: _forged(value, shape)}, f"{op} {name} {shape}")
                plan = _plan(op, {**good, name: _forged(value, shape, 2**62)})
                assert isinstance(plan, list) or plan.startswith(f"{op}: "), plan

    isolated(run, 120)


def _forged(value: torch.Tensor, shape: tuple[int, ...], stride: int = 0) -> abi.Forged:
    return abi.Forged(value.dtype, shape, (stride,) * len(shape), value.data_ptr())


def _plan_is_possible(op: str, forged: dict[str, Any], what: str) -> None:
    plan = _plan(op, forged)
    if isinstance(plan, str):
        assert plan.startswith(f"{op}: "), f"{what}: {plan}"
        return
    for dtype, shape, _ in plan:
        assert all(n >= 0 for n in shape), f"{what}: {shape}"
        assert math.prod(max(n, 1) for n in shape) * dtype.itemsize < 2**63, f"{what}: {shape}"


@pytest.mark.parametrize(
    "op", [op for op in ALL if any(a.dtype in ("i32", "i64") for a in adapter.signature(op).inputs)]
)
def test_indices(op: str) -> None:
    """Elements of integer tensors at the extremes of their dtype."""
    good = _good(op)
    forward = op.removesuffix("_backward") if op not in OPS else op
    types = cases.type_choices(forward).get("float32", {})
    wholes = [good]
    for case in cases.cases(forward):
        if not case.is_empty and max(case.dims.values(), default=0) <= 70:
            wholes.append(cases.values(case, types) if op == forward else cases.backward_case(case, types)[1])

    def run(step: Step) -> None:
        for arguments in wholes:
            for name, value in arguments.items():
                if not isinstance(value, torch.Tensor) or value.dtype not in (torch.int32, torch.int64):
                    continue
                limits = torch.iinfo(value.dtype)
                for at, index in itertools.product((0, value.numel() // 2, -1), (limits.min, -1, limits.max)):
                    changed = value.clone()
                    changed.view(-1)[at] = index
                    step(f"{op} {name}[{at}] = {index}")
                    _right_or_refused(op, {**arguments, name: changed}, f"{op} {name}[{at}] = {index}")

    isolated(run, 300)


def test_arrays_with_huge_extents_of_nothing() -> None:
    many = torch.empty(2**31, 0)
    with pytest.raises(
        ValueError, match=r"linear: output y would be \(2147483648, 2147483648\) f32, expected less than"
    ):
        ops.call("linear", x=many, weight=many)
    assert ops.call("linear", x=many, weight=torch.empty(0, 0)).shape == (2**31, 0)
    assert ops.call("add", x=many, y=many).shape == (2**31, 0)
    assert ops.call("concat_rows", x=many, y=many).shape == (2**32, 0)
    assert ops.call("embedding", indices=torch.empty(2**40, 0, dtype=torch.int32), weight=torch.empty(3, 2)).shape == (
        2**40,
        0,
        2,
    )


def test_unfold2d_with_a_stride_past_the_image() -> None:
    x = torch.arange(12.0).view(1, 1, 3, 4)
    for stride in (2**31, 2**62, 2**63 - 1):
        y = ops.call(
            "unfold2d", x=x, kernel_h=2, kernel_w=2, stride_h=stride, stride_w=stride, padding_h=1, padding_w=1
        )
        assert torch.equal(y, torch.tensor([[[[0.0, 0.0, 0.0, 0.0]]]]))
        y = ops.call("unfold2d", x=x, kernel_h=2, kernel_w=3, stride_h=stride, stride_w=stride)
        assert torch.equal(y, torch.tensor([[[[0.0, 1.0, 2.0, 4.0, 5.0, 6.0]]]]))

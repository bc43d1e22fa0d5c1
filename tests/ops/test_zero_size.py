"""Dims of size zero, every one in turn: defined outputs, the same from every kernel, through C and through torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import abi
import cases
import pytest
import torch
from isolation import Step, isolated
from tolerance import assert_close

from mambasdk import ops
from mambasdk.ops._library import adapter

OPS = cases.forward_ops()
_KINDS = re.compile("tail-all|bare|with-(order|cu_seqlens|seq_idx)|scalars")  # calls that differ in what they run


def _empty_cases(op: str) -> Iterator[cases.Case]:
    """Each dim of each kind of call at zero, by itself; dims that follow from it follow."""
    family = cases.FAMILIES.get(op, cases.Family())
    for case in cases.cases(op):
        if case.is_empty or not _KINDS.match(case.id):
            continue
        for dim in case.dims:
            dims = {**case.dims, dim: 0}
            if family.fix is not None:
                dims = family.fix({k: v for k, v in dims.items() if k != "M" or k == dim}, case.given, case.scalars)
            empty = replace(case, id=f"{case.id}, {dim}=0", dims=dims)
            if 0 in dims.values() and _has_extents(empty):
                yield empty
        if any(a.variadic for a in cases.signature(op).inputs):
            yield replace(case, id=f"{case.id}, lead=(2, 0)", lead=(2, 0))


def _has_extents(case: cases.Case) -> bool:
    dims = cases.known_dims(case)
    extents = [e.evaluate(dims) for a in cases.signature(case.op).inputs for e in a.shape]
    return all(n is not None and n >= 0 for n in extents)


def _sides(case: cases.Case, types: cases.Types) -> Iterator[tuple[str, dict[str, Any]]]:
    arguments = cases.values(case, types)
    yield case.op, arguments
    if case.op in cases.differentiable_ops() and not isinstance(_run(case.op, arguments, abi.REFERENCE), str):
        yield cases.backward_case(case, types)


def _run(op: str, arguments: dict[str, Any], kernel: int) -> list[Any] | str:
    try:
        return abi.call(op, list(arguments.values()), kernel)
    except abi.AbiError as error:
        return str(error)


@pytest.mark.parametrize("op", OPS)
def test_every_kernel_defines_every_element(op: str) -> None:
    """Outputs start as NaN bytes, so whatever is finite was written."""

    def run(step: Step) -> None:
        found: list[str] = []
        for case in _empty_cases(op):
            for name, types in (*list(cases.type_choices(op).items())[:2], ("float64", cases.double_types(op))):
                for side, arguments in _sides(case, types):
                    for isa in abi.isas():
                        what = f"{side}, {case}, {name}, {isa}"
                        step(what)
                        with abi.isa(isa):
                            found += _compare(side, arguments, types, what)
        assert not found, "\n".join(found[:8])

    isolated(run, 300)


def _compare(op: str, arguments: dict[str, Any], types: cases.Types, what: str) -> list[str]:
    actual = _run(op, arguments, abi.AUTOMATIC)
    reference = _run(op, cases.widened(op, arguments), abi.REFERENCE)
    if isinstance(actual, str) or isinstance(reference, str):
        named = isinstance(actual, str) and actual.startswith(f"{op}: ") and isinstance(reference, str)
        return [] if named else [f"{what}: {actual if isinstance(actual, str) else reference}"]
    wrong = []
    for output, a, b in zip(adapter.signature(op).outputs, actual, reference, strict=True):
        if a is None or a.numel() == 0:
            continue
        if not bool(a.isfinite().all()):
            wrong.append(f"{what}: {output.name} is not defined")
            continue
        try:
            assert_close(a, b, f"{what}: {output.name}", cases.floor(op, types))
        except AssertionError as error:
            wrong.append(str(error))
    return wrong


@pytest.mark.parametrize("op", OPS)
def test_torch_gives_the_same_and_gradients_of_the_right_shape(op: str) -> None:
    isolated(lambda step: _torch_side(op, step), 300)


def _torch_side(op: str, step: Step) -> None:
    types = cases.type_choices(op).get("float32", {})
    differentiable = op in cases.differentiable_ops()
    for case in _empty_cases(op):
        step(str(case))
        arguments = cases.values(case, types)
        expected = _run(op, arguments, abi.AUTOMATIC)
        leaves = {
            k: v.clone().requires_grad_(differentiable and v.is_floating_point()) if isinstance(v, torch.Tensor) else v
            for k, v in arguments.items()
        }
        if isinstance(expected, str):
            with pytest.raises(ValueError, match=f"^{op}: "):
                ops.call(op, **leaves)
            continue
        result = ops.call(op, **leaves)
        outputs = result if isinstance(result, tuple) else (result,)
        for a, b in zip(outputs, expected, strict=True):
            assert b is None or torch.equal(a, b), f"{case}"
        total = sum(o.sum() for o in outputs if o.requires_grad)
        if not isinstance(total, torch.Tensor):
            continue
        total.backward()
        for name, leaf in leaves.items():
            if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
                assert leaf.grad is not None, f"{case}: {name}"
                assert leaf.grad.shape == leaf.shape, f"{case}: {name}"
                assert bool(leaf.grad.isfinite().all()), f"{case}: {name}"


def test_sums_over_nothing_are_zero() -> None:
    bias = torch.tensor([1.5, -2.0])
    for rows in (0, 1, 9, 200):
        x, weight = torch.ones(rows, 0), torch.ones(2, 0)
        assert torch.equal(ops.call("linear", x=x, weight=weight), torch.zeros(rows, 2))
        assert torch.equal(ops.call("linear", x=x, weight=weight, bias=bias), bias.expand(rows, 2))
    assert torch.equal(ops.call("mean_rows", x=torch.ones(3, 0, 5)), torch.zeros(3, 5))
    x = torch.ones(2, 3)
    nothing = torch.ones(0, 3)
    assert torch.equal(ops.call("concat_rows", x=nothing, y=x), x)
    assert torch.equal(ops.call("concat_rows", x=x, y=nothing), x)
    none = torch.ones(2, 0, 7, 9)
    unfolded = ops.call("unfold2d", x=none, kernel_h=3, kernel_w=2, stride_h=2, stride_w=1)
    assert unfolded.shape == (2, 3, 8, 0)

"""Every kernel on every instruction set against the scalar reference in float64; memory starts as NaN."""

from __future__ import annotations

import abi
import cases
import pytest
import torch
from tolerance import assert_close, error

from mambasdk.ops._library import adapter

SETS = abi.isas()


def _parameters(ops: list[str]) -> list[tuple[str, str]]:
    return [(op, types) for op in ops for types in cases.type_choices(op)]


def _compare(op: str, arguments: dict[str, object], isa: str, types: cases.Types, what: str) -> None:
    reference = abi.call(op, list(cases.widened(op, arguments).values()), abi.REFERENCE)
    with abi.isa(isa):
        actual = abi.call(op, list(arguments.values()))
    for output, value, expected in zip(adapter.signature(op).outputs, actual, reference, strict=True):
        assert (value is None) == (expected is None), f"{what}: {output.name} is present in one of the kernels only"
        if value is not None and expected is not None:
            assert_close(value, expected, f"{what}: {output.name}", cases.floor(op, types))


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize(("op", "types"), _parameters(cases.forward_ops()))
def test_forward(op: str, types: str, isa: str) -> None:
    chosen = cases.type_choices(op)[types]
    for case in cases.cases(op):
        _compare(op, cases.values(case, chosen), isa, chosen, f"{case} {types} {isa}")


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize(("op", "types"), _parameters(cases.differentiable_ops()))
def test_backward(op: str, types: str, isa: str) -> None:
    chosen = cases.type_choices(op)[types]
    for case in cases.cases(op):
        backward, arguments = cases.backward_case(case, chosen)
        _compare(backward, arguments, isa, chosen, f"{case} backward {types} {isa}")


@pytest.mark.parametrize("op", cases.forward_ops())
def test_reference_in_double_is_stable_under_rounding(op: str) -> None:
    """The reference on float32 inputs agrees with itself in float64: it accumulates in double whatever the dtype."""
    for case in cases.cases(op):
        arguments = cases.values(case, cases.type_choices(op).get("float32", {}))
        low = abi.call(op, list(arguments.values()), abi.REFERENCE)
        high = abi.call(op, list(cases.widened(op, arguments).values()), abi.REFERENCE)
        for value, expected in zip(low, high, strict=True):
            if value is not None and expected is not None and value.is_floating_point():
                assert error(value, expected) <= 2.0**-22, f"{case}"


def test_every_operation_has_an_empty_case() -> None:
    for op in cases.forward_ops():
        assert any(case.is_empty for case in cases.cases(op)), op
    assert torch.get_default_dtype() == torch.float32

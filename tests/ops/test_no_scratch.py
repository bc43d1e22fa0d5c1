"""No scratch memory, at every allocation of every kernel in turn: an error, nothing is kept, and bits stay."""

from __future__ import annotations

from typing import Any

import abi
import cases
import pytest
import torch

OPS = cases.forward_ops()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("kernel", [abi.AUTOMATIC, abi.REFERENCE])
def test_a_failed_allocation_is_an_error_and_leaks_nothing(op: str, kernel: int) -> None:
    for name, types in cases.type_choices(op).items():
        for case in _few(op):
            sides = [(op, cases.values(case, types))]
            if op in cases.differentiable_ops():
                sides.append(cases.backward_case(case, types))
            for side, arguments in sides:
                _fail_each(side, list(arguments.values()), kernel, f"{side}, {case}, {name}")


def _few(op: str) -> list[cases.Case]:
    """What takes other paths: everything given, nothing given, several chunks, packed, routed, indexed."""
    chosen = ("-all", "bare", "with-order", "with-cu_seqlens", "with-seq_idx", "with-state_indices")
    return [c for c in cases.cases(op) if c.id.endswith(chosen)]


def _call(op: str, values: list[Any], kernel: int, memory: abi.ShortMemory) -> tuple[list[Any], str]:
    """The outputs, or what the error says."""
    try:
        return abi.call(op, values, kernel, short=memory), ""
    except abi.AbiError as error:
        return [], str(error)


def _fail_each(op: str, values: list[Any], kernel: int, what: str) -> None:
    expected = abi.call(op, values, kernel)
    for n in range(1000):
        memory = abi.ShortMemory(n)
        actual, error = _call(op, values, kernel, memory)
        assert not memory.live, f"{what}: {len(memory.live)} blocks are kept after allocation {n}"
        assert memory.failed == bool(error), f"{what}, allocation {n}: {error}"
        if not error:
            break
        assert "the host's allocator refused" in error, f"{what}, allocation {n}: {error}"
    else:
        pytest.fail(f"{what}: more than 1000 allocations")
    for a, b in zip(actual, expected, strict=True):
        assert a is b if a is None or b is None else torch.equal(_bits(a), _bits(b)), what


def _bits(t: torch.Tensor) -> torch.Tensor:
    return t.contiguous().reshape(-1).view(torch.uint8)

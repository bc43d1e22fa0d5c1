"""Every operation with its inputs, outputs and scratch right before and right after pages that nobody may touch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import abi
import cases
import pytest
import torch
from guard_pages import GuardPages
from isolation import Step, isolated

from mambasdk.ops._library import adapter

OPS = cases.forward_ops()


def _gaps(t: torch.Tensor) -> torch.Tensor:
    """Rows apart, unit stride in the last dim."""
    if t.dim() < 2:
        return t
    wide = torch.zeros(*t.shape[:-1], t.shape[-1] + 5, dtype=t.dtype)
    wide[..., : t.shape[-1]] = t
    return wide[..., : t.shape[-1]]


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t,
    "gaps": _gaps,
    "transposed": lambda t: t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() > 1 else t,
}


def _sides(case: cases.Case, types: cases.Types) -> list[tuple[str, dict[str, Any]]]:
    sides = [(case.op, cases.values(case, types))]
    if case.op in cases.differentiable_ops():
        sides.append(cases.backward_case(case, types))
    return sides


@pytest.mark.parametrize("op", OPS)
def test_nothing_outside_of_a_tensor_is_touched(op: str) -> None:
    def run(step: Step) -> None:
        for name, types in cases.type_choices(op).items():
            for case in cases.cases(op):
                for side, arguments in _sides(case, types):
                    for isa in abi.isas():
                        step(f"{side}, {case}, {name}, {isa}")
                        with abi.isa(isa):
                            _check(side, arguments, step, f"{side}, {case}, {name}, {isa}")

    isolated(run, 300)


def _check(op: str, arguments: dict[str, Any], step: Step, what: str) -> None:
    for layout, change in LAYOUTS.items():
        moved = {k: change(v) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
        expected = abi.call(op, list(moved.values()))
        for low in (False, True):
            step(f"{what}, {layout}, {'after' if low else 'before'} a guard page")
            pages = GuardPages(low)
            placed = [pages.place(v) if isinstance(v, torch.Tensor) else v for v in moved.values()]
            actual = abi.call(op, placed, pages=pages)
            for output, a, b in zip(adapter.signature(op).outputs, actual, expected, strict=True):
                same = a is b if a is None or b is None else torch.equal(_bits(a), _bits(b))
                assert same, f"{what}, {layout}: {output.name} depends on where the memory lies"
            pages.close()


def _bits(t: torch.Tensor) -> torch.Tensor:
    return t.contiguous().view(torch.uint8) if t.numel() > 0 and t.dim() > 0 else t.reshape(-1).view(torch.uint8)


def test_the_guard_pages_are_there() -> None:
    """Reading one element past a block, or before it, ends the process."""
    for low in (False, True):

        def past(_: Step, low: bool = low) -> None:
            t = GuardPages(low).place(torch.ones(5))
            assert t.sum() == 5
            ctypes.string_at(t.data_ptr() + (-1 if low else t.nbytes), 1)

        with pytest.raises(pytest.fail.Exception, match="ended by SIGSEGV"):
            isolated(past, 30)

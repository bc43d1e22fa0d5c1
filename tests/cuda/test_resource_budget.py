"""nvcc compiles every kernel for every architecture, without warnings, spills or local memory, within its budget."""

from __future__ import annotations

import json
from typing import Any

import pytest
import resource_budget
import sass

BUDGET = json.loads(resource_budget.FILE.read_text("utf-8"))

LISTING = """
\t.section .text.kernel,"ax"
.text.kernel:
        /*0000*/                   MOV R1, R2 ;
.L_x_0:
        /*0010*/                   ISETP.GT.AND P0, PT, R1, R2, PT ;
        /*0020*/              @P0 BRA `(.L_x_1) ;
        /*0030*/                   FADD R4, R4, R5 ;
        /*0040*/                   FADD R4, R4, R5 ;
.L_x_1:
        /*0050*/                   MUFU.EX2 R3, R3 ;
        /*0060*/              @!P1 BRA `(.L_x_0) ;
        /*0070*/                   EXIT ;
"""


def test_every_kernel_has_a_budget() -> None:
    assert sorted(BUDGET["counts"]) == resource_budget.SOURCES
    for counts in BUDGET["counts"].values():
        assert set(counts) == set(resource_budget.ARCHITECTURES)


def test_ways_through_a_loop() -> None:
    [code] = sass.kernels(LISTING).values()
    assert [len(block.instructions) for block in code] == [1, 2, 2, 2, 1]
    loop = sass.loop_around(code, 3)
    assert loop == (1, 3)
    assert sass.ways_through(code, loop, 3) == (4, 6)


def test_a_spill_is_seen() -> None:
    report = """ptxas info    : Compiling entry function 'k' for 'sm_80'
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers"""
    assert resource_budget.registers(report) == {"k": {"registers": 255, "stack": 8, "spills": 16}}


@pytest.mark.parametrize("architecture", resource_budget.ARCHITECTURES)
@pytest.mark.parametrize("source", resource_budget.SOURCES)
def test_kernels_keep_their_budget(source: str, architecture: str, disassembler: str) -> None:
    counts: dict[str, Any] = resource_budget.measured(source, architecture, disassembler)
    if (release := resource_budget.nvcc_release()) != BUDGET["nvcc"]:
        pytest.skip(f"compiled; the budget is that of nvcc {BUDGET['nvcc']}, and this is {release}")
    assert counts == BUDGET["counts"][source][architecture], "tests/cuda/resource_budget.py writes the new counts"

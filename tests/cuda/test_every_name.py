"""Each name of cuda/device.hpp becomes the instruction that it stands for, on every architecture."""

from __future__ import annotations

import fnmatch
import subprocess
from pathlib import Path

import pytest
import resource_budget
import sass

INSTRUCTIONS = {
    "LDGSTS.E.BYPASS.128": "copy_async<16>",
    "LDGSTS.E.64": "copy_async<8>",
    "LDGSTS.E": "copy_async<4>",
    "LDGDEPBAR": "copy_commit",
    "DEPBAR.LE*": "copy_wait",
    "BAR.SYNC*": "barrier",
    "LDSM.16.M88": "load_matrix<1>",
    "LDSM.16.M88.2": "load_matrix<2>",
    "LDSM.16.M88.4": "load_matrix<4>",
    "LDSM.16.MT88": "load_matrix_transposed<1>",
    "LDSM.16.MT88.2": "load_matrix_transposed<2>",
    "LDSM.16.MT88.4": "load_matrix_transposed<4>",
    "HMMA.16816.F32*": "multiply_add",
    "SHFL.BFLY": "shuffle_xor",
    "SHFL.IDX": "shuffle",
    "MUFU.EX2": "exp2_approx",
    "MUFU.RCP": "reciprocal_approx",
    "LDG.E.128*": "load_vector",
    "STG.E.128*": "store_vector",
    "RED*.ADD.F32*": "add",
    "VOTE*": "ballot",
}


@pytest.mark.parametrize("architecture", resource_budget.ARCHITECTURES)
def test_names_become_their_instructions(architecture: str, tmp_path: Path, disassembler: str) -> None:
    cubin = tmp_path / "every_name.cubin"
    resource_budget.compiled("tests/cuda/every_name.cu", architecture, cubin)
    listing = subprocess.run([disassembler, "-c", cubin], check=True, capture_output=True, text=True).stdout
    for name, code in sass.kernels(listing).items():
        found = {sass.mnemonic(line) for block in code for line in block.instructions}
        missing = [why for what, why in INSTRUCTIONS.items() if not fnmatch.filter(found, what)]
        assert missing == [], f"{name}: {sorted(found)}"

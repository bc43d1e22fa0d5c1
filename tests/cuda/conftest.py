"""The compiler and the disassembler of CUDA, or the reason why tests are skipped without them."""

from __future__ import annotations

import shutil

import pytest
import resource_budget


@pytest.fixture
def disassembler() -> str:
    """nvdisasm, where nvcc is there too."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is absent: install CUDA's compiler to compile the kernels")
    found = resource_budget.nvdisasm()
    if found is None:
        pytest.skip("nvdisasm is absent: pip install nvidia-cuda-nvdisasm")
    return found

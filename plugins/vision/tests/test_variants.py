"""The published variants by name: exact parameter counts, names and shapes of their tensors, what listing costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mambasdk
from mambasdk.models import identity

# Spec vim.md section 6 and vmamba-ss2d.md section 9.
PARAMETERS = {
    "vim-tiny": 7_148_008,
    "vim-tiny-plus": 7_250_344,
    "vim-small": 25_796_584,
    "vim-small-plus": 26_001_256,
    "vim-base": 97_598_440,
    "vmamba-tiny-vanilla": 22_893_448,
    "vmamba-small-vanilla": 44_417_416,
    "vmamba-base-vanilla": 76_254_056,
    "vmamba-tiny-s2l5": 30_705_832,
    "vmamba-small-s2l15": 50_147_752,
    "vmamba-base-s2l15": 88_557_800,
    "vmamba-tiny-s1l8": 30_249_064,
    "vmamba-small-s1l20": 49_012_840,
    "vmamba-base-s1l20": 86_614_504,
}
GOLDEN = {
    "vim": [("vim-tiny", "vim/state_dict_shapes.json")],
    "vmamba": [
        ("vmamba-tiny-vanilla", "vmamba-ss2d/state_dict_shapes.json"),
        ("vmamba-tiny-s1l8", "vmamba-ss2d/state_dict_shapes_tiny_s1l8.json"),
    ],
}


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts_are_the_published_ones(variant: str) -> None:
    model = mambasdk.create_model(variant, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[variant]
    assert identity(model).variant == variant


def test_all_variants_are_listed() -> None:
    assert set(PARAMETERS) == set(mambasdk.list_models("vim-*")) | set(mambasdk.list_models("vmamba-*"))


@pytest.mark.parametrize("family", GOLDEN)
def test_state_dict_shapes_are_those_of_the_golden(family: str, golden: Callable[[str], Path]) -> None:
    for variant, file in GOLDEN[family]:
        folder, _, name = file.partition("/")
        expected = json.loads((golden(folder) / name).read_text())
        model = mambasdk.create_model(variant, device="meta")
        assert {key: list(value.shape) for key, value in model.state_dict().items()} == expected


def test_listing_imports_neither_torch_nor_model_code() -> None:
    code = (
        "import sys, mambasdk; mambasdk.list_models();"
        "print([name for name in sys.modules if name == 'torch' or name.startswith('mambasdk_vision.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "['mambasdk_vision.heads', 'mambasdk_vision.image', 'mambasdk_vision.plugin']"

"""The published variants by name: exact parameter counts, and what listing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mambasdk

# Spec mamba.md and mamba2.md, section 8: the tied head counts once.
PARAMETERS = {
    "mamba-130m": 129_135_360,
    "mamba-370m": 371_516_416,
    "mamba-790m": 793_204_224,
    "mamba-1.4b": 1_372_178_432,
    "mamba-2.8b": 2_768_345_600,
    "mamba-2.8b-slimpj": 2_768_345_600,
    "mamba2-130m": 128_989_632,
    "mamba2-370m": 368_346_624,
    "mamba2-780m": 780_161_280,
    "mamba2-1.3b": 1_343_757_312,
    "mamba2-2.7b": 2_702_599_680,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    model = mambasdk.create_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    assert all(parameter.is_meta for parameter in model.parameters())


def test_all_variants_are_listed() -> None:
    assert set(PARAMETERS) <= set(mambasdk.list_models())
    assert "mamba-2.8b-slimpj" in mambasdk.list_models("mamba-2.8b*")


def test_listing_imports_neither_torch_nor_model_code() -> None:
    code = (
        "import sys, mambasdk, mambasdk_language; mambasdk.list_models();"
        "print([name for name in sys.modules if name == 'torch' or name.startswith('mambasdk_language.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "['mambasdk_language.plugin']"

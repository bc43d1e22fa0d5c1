"""Fixtures: tiny models of both families."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mambasdk
from mambasdk.plugins import get_host

sys.path.insert(0, str(Path(__file__).parent))  # modules that these tests share: evidence_*.py, language_golden.py

# Sizes that exercise every dim: groups, several heads, a padded vocabulary.
TINY = {
    "mamba": {"d_model": 32, "n_layer": 2, "vocab_size": 256, "d_state": 8},
    "mamba2": {"d_model": 32, "n_layer": 2, "vocab_size": 256, "d_state": 16, "headdim": 8, "ngroups": 2},
}


@pytest.fixture(scope="session", autouse=True)
def _registered() -> None:
    """Without the entry point nothing here means anything."""
    families = get_host().registrations.families
    assert {"mamba", "mamba2"} <= set(families), "pip install -e plugins/language"


@pytest.fixture(params=["mamba", "mamba2"])
def family(request: pytest.FixtureRequest) -> str:
    """Each family."""
    name: str = request.param
    return name


@pytest.fixture
def tiny(family: str, make_tiny: Callable[..., Any]) -> Any:
    """A small model with random weights whose logits are far from uniform."""
    return make_tiny(family)


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., Any]:
    """A function (family, **overrides) -> such a model."""
    return _make_tiny


def _make_tiny(family: str, **overrides: Any) -> Any:
    torch.manual_seed(1)
    # A tied head would mostly repeat the last token.
    model: Any = mambasdk.create_model(family, **{**TINY[family], "tie_embeddings": False, **overrides}).eval()
    with torch.no_grad():
        model.backbone.embedding.weight.normal_(std=0.3)
        model.lm_head.weight.normal_(std=0.4)
    return model

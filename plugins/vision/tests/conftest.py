"""Fixtures: tiny models of both families."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mambasdk
from mambasdk.plugins import get_host

sys.path.insert(0, str(Path(__file__).parent))  # modules that these tests share: evidence_*.py, vision_golden.py


@pytest.fixture(scope="session", autouse=True)
def _registered() -> None:
    """Without the entry point nothing here means anything."""
    assert {"vim", "vmamba"} <= set(get_host().registrations.families), "pip install ./plugins/vision"


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., Any]:
    """A function (family, **overrides) -> a small model in eval mode whose logits are far from uniform."""

    def make(family: str, **overrides: Any) -> Any:
        torch = pytest.importorskip("torch")
        torch.manual_seed(1)
        model: Any = mambasdk.create_model(family, **{**get_host().family(family).tiny, **overrides}).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and not name.endswith(("A_log", "A_b_log", "A_logs", "pos_embed")):
                    parameter.mul_(1.5)
                if name in ("cls_token", "pos_embed"):
                    parameter.normal_(std=0.5)
        return model

    return make

"""Fixtures: motion predictors, packages."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mambasdk
from mambasdk.package import save_package

IMAGE = (1920, 1080)
sys.path.insert(0, str(Path(__file__).parent))  # what these tests share: moving_squares.py


@pytest.fixture(scope="session")
def golden_model(golden: Callable[[str], Path]) -> Callable[..., Any]:
    """A function (weights file, **config) -> the golden's model, imported as a user would."""

    def load(weights: str = "weights", **config: Any) -> Any:
        folder = golden("mambatrack")
        settings = {**json.loads((folder / "config.json").read_text()), **config}
        return mambasdk.import_checkpoint("mambatrack", settings, folder / f"{weights}.safetensors").eval()

    return load


@pytest.fixture(scope="session")
def tiny() -> Any:
    """A small predictor with random weights whose deltas are a few pixels."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    return mambasdk.create_model("mambatrack", d_model=16, n_layer=2, d_state=4, head_hidden=8, window=6).eval()


@pytest.fixture(scope="session")
def package(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its native package."""
    path = tmp_path_factory.mktemp("tiny") / "package"
    save_package(tiny, path, head_options={"image_size": list(IMAGE), "min_history": 3})
    return path

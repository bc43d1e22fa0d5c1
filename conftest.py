"""What the tests of the SDK and of every plugin share: where the golden tensors lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Path]:
    """A function that gives the folder of a system's golden tensors, or skips the test where there is none."""

    def folder(system: str) -> Path:
        root = Path(os.environ.get("MAMBASDK_GOLDEN") or Path(__file__).parents[1] / "shared" / "golden")
        path = root / system
        if not path.is_dir():
            pytest.skip(f"no golden tensors at {path}; set MAMBASDK_GOLDEN to the folder that holds {system}/")
        return path

    return folder

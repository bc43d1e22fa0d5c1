"""What the ABI tests look at: the installed package, and the build tree that it came from."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def prefix() -> Path:
    """The installed package's folder, which is an installation prefix."""
    spec = find_spec("mambasdk")
    assert spec is not None, "mambasdk is not installed; run `make setup`"
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    assert (folder / "lib").is_dir(), f"{folder} is a source folder, not an installed wheel; run `make setup`"
    return folder


@pytest.fixture(scope="session")
def build_tree() -> Path:
    """The CMake build tree that the wheel came from."""
    folder = Path(os.environ.get("MAMBASDK_BUILD", ROOT / "build" / "release"))
    if not (folder / "CMakeCache.txt").is_file():
        pytest.skip(f"no CMake build at {folder}; MAMBASDK_BUILD names another")
    return folder

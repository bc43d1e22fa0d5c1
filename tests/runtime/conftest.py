"""Fixtures of the runtime tests: the programs of the C++ build tree."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # tokenizer_cases


@pytest.fixture(scope="session")
def tokenizer_tool() -> Path:
    """The program mambasdk-tokenize of the build in MAMBASDK_BUILD_DIR (build/release unless set)."""
    build = ROOT / os.environ.get("MAMBASDK_BUILD_DIR", "build/release")
    for folder in (build / "tools", build):
        for name in ("mambasdk-tokenize", "mambasdk_tokenize"):
            if (folder / name).is_file():
                return folder / name
    pytest.skip(f"no mambasdk-tokenize in {build}: build the target mambasdk_tokenize or set MAMBASDK_BUILD_DIR")

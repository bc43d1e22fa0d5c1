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
    tools = ROOT / os.environ.get("MAMBASDK_BUILD_DIR", "build/release") / "tools"
    for name in ("mambasdk-tokenize", "mambasdk_tokenize"):
        if (tools / name).exists():
            return tools / name
    pytest.skip(f"no mambasdk-tokenize in {tools}: build it (target mambasdk_tokenize) or set MAMBASDK_BUILD_DIR")

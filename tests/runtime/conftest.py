"""Fixtures of the runtime tests: the programs of the C++ build tree, and a small package."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
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


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    """A language model over bytes that answers every byte b with b + 1, as a package written by hand."""
    safetensors = pytest.importorskip("safetensors.numpy")
    head = np.roll(np.eye(256, dtype=np.float32), 1, axis=0)  # row b + 1 looks at b
    safetensors.save_file({"embedding": np.eye(256, dtype=np.float32), "head": head}, tmp_path / "model.safetensors")
    tokens = [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}]
    program = {
        "format": 1,
        "inputs": tokens,
        "states": [],
        "prepare": [],
        "nodes": [
            {"op": "embedding", "args": {"indices": "%tokens", "weight": "@embedding"}, "out": {"y": "%h"}},
            {"op": "linear", "args": {"x": "%h", "weight": "@head"}, "out": {"y": "%logits"}},
            {"view": "slice", "in": "%logits", "dim": 1, "start": -1, "length": 1, "out": "%last"},
        ],
        "outputs": [{"name": "logits", "value": "%logits"}, {"name": "last_logits", "value": "%last"}],
    }
    manifest = {
        "format": [1, 1],
        "family": "test",
        "config": {},
        "head": "causal_lm",
        "head_options": {"max_new_tokens": 3},
        "engine": {"name": "native", "program": "program.json"},
        "inputs": tokens,
        "processors": {"text": {"kind": "bytes"}},
        "files": {},
    }
    (tmp_path / "program.json").write_text(json.dumps(program))
    (tmp_path / "mambasdk.json").write_text(json.dumps(manifest))
    return tmp_path


@pytest.fixture
def listed(shifted: Path) -> Path:
    """The package with the hashes of its files."""
    manifest = json.loads((shifted / "mambasdk.json").read_text())
    for name in ("model.safetensors", "program.json"):
        data = (shifted / name).read_bytes()
        manifest.setdefault("files", {})[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (shifted / "mambasdk.json").write_text(json.dumps(manifest))
    return shifted

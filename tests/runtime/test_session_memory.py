"""What a session says that it takes, against sizes that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mambasdk._core import load_package


@pytest.fixture
def counted(shifted: Path) -> Path:
    """The small package with a weight that is made at load, and a state."""
    safetensors = pytest.importorskip("safetensors.numpy")
    weights = safetensors.load_file(shifted / "model.safetensors")
    weights["A_log"] = np.zeros((3, 256), np.float32)
    safetensors.save_file(weights, shifted / "model.safetensors")
    program = json.loads((shifted / "program.json").read_text())
    program["states"] = [{"name": "last", "dtype": "f32", "shape": ["B", 3, 256]}]
    program["prepare"] = [{"op": "neg_exp", "args": {"x": "@A_log"}, "out": {"y": "@A"}}]
    program["nodes"] += [
        {"view": "expand", "in": "@A", "shape": ["B", 3, 256], "out": "%A"},
        {"op": "copy", "args": {"x": "%A"}, "out": {"y": "$last"}},
    ]
    (shifted / "program.json").write_text(json.dumps(program))
    return shifted


def test_weights_are_counted_by_where_they_lie(counted: Path) -> None:
    memory = load_package(counted).session().memory()
    assert memory == {
        "mapped_weights": 2 * 256 * 256 * 4,  # A_log is given back once A is made
        "prepared_weights": 3 * 256 * 4,
        "states": 0,
        "arena": 0,
    }


def test_states_and_the_arena_follow_the_runs(counted: Path) -> None:
    session = load_package(counted).session()
    tokens = np.zeros((2, 10), np.int32)
    session.run({"tokens": tokens})
    first = session.memory()
    assert first["states"] == 2 * (2 * 3 * 256 * 4)  # both sides, a batch of two
    assert first["arena"] >= 2 * (2 * 10 * 256 * 4)  # hidden features and logits
    session.run({"tokens": tokens})
    assert session.memory() == first
    session.run({"tokens": tokens[:, :1]})  # another plan is kept beside
    assert first["arena"] < session.memory()["arena"] < 2 * first["arena"]
    assert session.clone().memory()["states"] == first["states"]
    session.reset()
    assert session.memory()["states"] == 0

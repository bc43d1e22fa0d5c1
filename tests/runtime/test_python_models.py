"""Packages that Python runs, by `_core.load_package(model=…)`: one pipeline, with states that are taken back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mambasdk import _core
from mambasdk.plugins import ModelHead

COUNT = {"name": "x", "dtype": "f32", "shape": [None]}


class Sums:
    """y = the running sum of x, element by element."""

    inputs = (COUNT,)
    outputs = ({**COUNT, "name": "y"},)

    def session(self) -> SumsSession:
        """Zero."""
        return SumsSession(0.0)


class SumsSession:
    def __init__(self, total: Any) -> None:
        self.total = total

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
        """Refuses what is negative, after it has moved."""
        assert list(outputs) == ["y"]
        self.total = self.total + inputs["x"]
        if (inputs["x"] < 0).any():
            raise OverflowError("negative")
        return {"y": self.total.astype(np.float32)}

    def reset(self) -> None:
        self.total = 0.0

    def clone(self) -> SumsSession:
        return SumsSession(self.total)

    def state(self) -> bytes:
        return np.asarray(self.total, np.float32).tobytes()

    def restore(self, state: bytes) -> None:
        self.total = np.frombuffer(state, np.float32)


class Twice(ModelHead):
    """Runs the model twice."""

    def run(self, model: _core.HeadModel, inputs: Mapping[str, Any], emit: _core.Emitter) -> None:
        model.run({"x": inputs["x"]}, ["y"])
        emit("y", model.run_once(dict(inputs))["y"])
        if inputs.get("options", {}).get("fail"):
            model.run({"x": -inputs["x"]}, ["y"])


@pytest.fixture
def model(tmp_path: Path) -> _core.Model:
    manifest = {"format": [1, 2], "family": "test", "config": {}, "engine": {"name": "somewhere"}, "files": {}}
    (tmp_path / "mambasdk.json").write_text(json.dumps(manifest))
    with pytest.raises(NotImplementedError, match='needs the engine "somewhere"'):
        _core.load_package(tmp_path)
    return _core.load_package(tmp_path, model=Sums())


def test_a_model_in_python_is_a_model(model: _core.Model) -> None:
    assert model.inputs == [{"name": "x", "dtype": "f32", "shape": ["?"]}]
    assert [output["name"] for output in model.outputs] == ["y"]
    session = model.session()
    x = np.float32([1, 2])
    assert [session.run({"x": x}, ["y"])["y"].tolist() for _ in range(2)] == [[1, 2], [2, 4]]
    state, clone = session.state(), session.clone()
    assert clone.run({"x": x}, ["y"])["y"].tolist() == [3, 6]
    session.reset()
    assert session.run({"x": x[::-1]}, ["y"])["y"].tolist() == [2, 1]  # a strided array
    session.restore(state)
    assert session.run({"x": x}, ["y"])["y"].tolist() == [3, 6]
    with pytest.raises(OverflowError, match="negative"):
        session.run({"x": -x}, ["y"])
    with pytest.raises(AssertionError):
        session.run({"x": x}, ["z"])


def test_pipelines_run_it_and_take_its_state_back(model: _core.Model) -> None:
    x = np.float32([1, 2])
    plain = _core.Pipeline(model)
    assert plain.run({"x": x})["y"].tolist() == [1, 2]
    with pytest.raises(OverflowError, match="negative"):
        plain.run({"x": -x})
    assert plain.run({"x": x})["y"].tolist() == [2, 4]
    running = _core.Pipeline(model, head=lambda options, directory: Twice())
    assert running.run({"x": x})["y"].tolist() == [2, 4]
    for _ in range(2):
        with pytest.raises(OverflowError, match="negative"):
            running.run({"x": x}, {"fail": True})
    assert running.run({"x": x})["y"].tolist() == [4, 8]
    running.reset()
    assert running.run({"x": x})["y"].tolist() == [2, 4]

"""Heads that run their model themselves: the same two in C, in C++ and in Python give the same results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mambasdk import _core
from mambasdk.plugins import ModelHead

pytestmark = pytest.mark.install

CHANNELS = 3


class Thrice(ModelHead):
    """The model three times, each on what it made before."""

    def __init__(self, options: Mapping[str, Any], directory: str) -> None:
        assert options == {"some": ["option"]}
        assert (Path(directory) / "mambasdk.json").is_file()
        self.calls = 0

    def run(self, model: _core.HeadModel, inputs: Mapping[str, Any], emit: _core.Emitter) -> None:
        """See heads.cpp."""
        y = inputs["x"]
        for i in range(3):
            if i == 2 and inputs.get("options", {}).get("fail"):
                raise ValueError("gave up after the second run")
            y = model.run({"x": y}, ["y"])["y"]
        emit("y", y)
        emit.json({"calls": self.calls + 1})
        self.calls += 1

    def reset(self) -> None:
        """Start counting again."""
        self.calls = 0


class Windows(ModelHead):
    """Windows of 4 every 2 steps, each from a zero state; where they overlap, the mean."""

    def __init__(self, options: Mapping[str, Any], directory: str) -> None:
        del options, directory

    def attach(self, model: _core.HeadModel) -> None:
        """See heads.cpp."""
        if [(x["name"], len(x["shape"])) for x in model.inputs] != [("x", 3)]:
            raise NotImplementedError("abiheads: another model")

    def run(self, model: _core.HeadModel, inputs: Mapping[str, Any], emit: _core.Emitter) -> None:
        """See heads.cpp."""
        x = inputs["x"]
        before = model.state()
        mean, count = np.zeros_like(x), np.zeros_like(x)
        for start in range(0, x.shape[1] - 3, 2):
            model.reset()
            window = slice(start, start + 4)
            mean[:, window] += model.run({"x": x[:, window]}, ["y"])["y"]
            count[:, window] += 1
        model.restore(before)
        emit("y", mean / count)


PYTHON = {"thrice": Thrice, "windows": Windows}
LANGUAGES = ("c", "cpp", "python")


@pytest.fixture(scope="module")
def plugins(build_plugin: Callable[[str], Path]) -> None:
    """The heads of heads.c and heads.cpp, in this process."""
    folder = build_plugin("heads") / "abiheads_package"
    for language in ("c", "cpp"):
        _core.load_native_plugin(str(folder / f"libabiheads_{language}.so"))


def package(folder: Path, head: str, name: str = "x") -> Path:
    """A causal convolution of `name`, f32 (B, L, 3), to y, with its state."""
    folder.mkdir()
    weight = np.random.default_rng(0).normal(size=(CHANNELS, 4)).astype(np.float32)
    save_file({"w": weight}, folder / "model.safetensors")
    tensors = [{"name": name, "dtype": "f32", "shape": ["B", "L", CHANNELS]}]
    y = [{"name": "y", "dtype": "f32", "shape": ["B", "L", CHANNELS]}]
    arguments = {"x": f"%{name}", "weight": "@w", "initial_state": "$conv", "return_final_state": True}
    program = {
        "format": 1,
        "inputs": tensors,
        "states": [{"name": "conv", "dtype": "f32", "shape": ["B", 3, CHANNELS]}],
        "nodes": [{"op": "causal_conv1d", "args": arguments, "out": {"y": "%y", "final_state": "$conv"}}],
        "outputs": [{"name": "y", "value": "%y"}],
    }
    manifest = {
        "format": [1, 1],
        "family": "test",
        "config": {},
        "head": head,
        "head_options": {"some": ["option"]},
        "engine": {"name": "native", "program": "program.json"},
        "inputs": tensors,
        "outputs": y,
        "processors": {},
        "files": {},
    }
    (folder / "program.json").write_text(json.dumps(program))
    (folder / "mambasdk.json").write_text(json.dumps(manifest))
    return folder


def pipeline(folder: Path, head: str, language: str, name: str = "x") -> _core.Pipeline:
    """A pipeline with this head in this language."""
    if language != "python":
        return _core.Pipeline(_core.load_package(package(folder, f"abiheads_{language}_{head}", name)))
    return _core.Pipeline(_core.load_package(package(folder, "python_alone", name)), head=PYTHON[head])


def example(length: int, seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=(1, length, CHANNELS)).astype(np.float32)


def expected_thrice(folder: Path, xs: list[Any]) -> list[Any]:
    """By a session alone."""
    session = _core.load_package(folder).session()
    made = []
    for x in xs:
        y = x
        for _ in range(3):
            y = session.run({"x": y}, ["y"])["y"]
        made.append(y)
    return made


@pytest.mark.parametrize("language", LANGUAGES)
def test_three_runs_with_a_state(plugins: None, language: str, tmp_path: Path) -> None:
    running = pipeline(tmp_path / "p", "thrice", language)
    xs = [example(5, seed) for seed in range(3)]
    results = [running.run({"x": x}) for x in xs]
    for result, y in zip(results, expected_thrice(tmp_path / "p", xs), strict=True):
        np.testing.assert_array_equal(result["y"], y)
    assert [result["json"] for result in results] == [{"calls": 1}, {"calls": 2}, {"calls": 3}]
    running.reset()
    again = running.run({"x": xs[0]})
    np.testing.assert_array_equal(again["y"], results[0]["y"])
    assert again["json"] == {"calls": 1}


@pytest.mark.parametrize("language", LANGUAGES)
def test_sliding_windows(plugins: None, language: str, tmp_path: Path) -> None:
    running = pipeline(tmp_path / "p", "windows", language)
    x = example(10, 7)
    session = _core.load_package(tmp_path / "p").session()
    total, count = np.zeros_like(x), np.zeros_like(x)
    for start in (0, 2, 4, 6):
        session.reset()
        total[:, start : start + 4] += session.run({"x": x[:, start : start + 4]}, ["y"])["y"]
        count[:, start : start + 4] += 1
    for _ in range(2):
        np.testing.assert_array_equal(running.run({"x": x})["y"], total / count)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_head_that_fails_after_its_second_run_leaves_everything(plugins: None, language: str, tmp_path: Path) -> None:
    running = pipeline(tmp_path / "p", "thrice", language)
    xs = [example(5, seed) for seed in range(2)]
    expected = expected_thrice(tmp_path / "p", xs)
    np.testing.assert_array_equal(running.run({"x": xs[0]})["y"], expected[0])
    for _ in range(2):
        with pytest.raises(ValueError, match="gave up after the second run"):
            running.run({"x": example(9, 5)}, {"fail": True})
    last = running.run({"x": xs[1]})
    np.testing.assert_array_equal(last["y"], expected[1])
    assert last["json"] == {"calls": 2}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_head_refuses_a_model_that_it_does_not_know(plugins: None, language: str, tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="abiheads: another model"):
        pipeline(tmp_path / "p", "windows", language, "other")


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_a_head_with_a_model_and_no_pipeline(plugins: None, language: str, tmp_path: Path) -> None:
    folder = package(tmp_path / "p", "")
    head = _core.Processor(f"abiheads_{language}_thrice", head=True, model=_core.load_package(folder))
    xs = [example(5, seed) for seed in range(2)]
    for x, y in zip(xs, expected_thrice(folder, xs), strict=True):
        np.testing.assert_array_equal(head.run({"x": x})["y"], y)
    with pytest.raises(NotImplementedError, match="runs the model itself: use a pipeline"):
        _core.Processor(f"abiheads_{language}_thrice", head=True)


def test_what_a_python_head_is_given_ends_with_the_call(tmp_path: Path) -> None:
    kept: list[Any] = []

    class Keeps(ModelHead):
        def run(self, model: _core.HeadModel, inputs: Mapping[str, Any], emit: _core.Emitter) -> None:
            kept.extend([model, emit])
            emit("y", model.run_once(dict(inputs))["y"])
            emit.text("note", "né")

    running = _core.Pipeline(
        _core.load_package(package(tmp_path / "p", "any")), head=lambda options, directory: Keeps()
    )
    made = running.run({"x": example(5, 0)})
    assert made["note"].tobytes().decode() == "né"
    with pytest.raises(ValueError, match="belongs to a call that has returned"):
        kept[1]("late", np.zeros(1))
    with pytest.raises(ValueError, match="the pipeline has no input z"):
        running.run({"z": example(5, 0)})
    with pytest.raises(ValueError, match="the model's input x is missing"):
        running.run({})
    del running
    with pytest.raises(ValueError, match="belongs to a call that has returned"):
        kept[0].reset()


def test_exceptions_of_a_python_head_arrive_as_they_are(tmp_path: Path) -> None:
    class UnusualError(Exception):
        """Of nobody's list."""

    class Raises(ModelHead):
        def run(self, model: _core.HeadModel, inputs: Mapping[str, Any], emit: _core.Emitter) -> None:
            raise UnusualError(*inputs)

    running = _core.Pipeline(
        _core.load_package(package(tmp_path / "p", "any")), head=lambda options, directory: Raises()
    )
    with pytest.raises(UnusualError, match="x"):
        running.run({"x": example(5, 0)})

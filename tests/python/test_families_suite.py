"""mambasdk.testing: which tests a family gets, and that each of them fails for the fault that it is there to find."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mambasdk import nn
from mambasdk.lowering import graph
from mambasdk.testing import causal, engines, families, golden, properties
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance

CAUSAL = {one.name for one in causal.PROPERTIES}


@pytest.fixture
def subject(toy: str) -> families.Subject:
    """The toy family: causal, with a native form, masks and packed sequences."""
    return families.Subject(families.Evidence(toy))


def names(made: dict[str, Callable[..., Any]]) -> dict[str, list[str]]:
    """Test function -> ids of its cases."""
    return {name: [case.id for mark in function.pytestmark for case in mark.args[1]] for name, function in made.items()}


def test_a_family_gets_the_tests_that_apply_to_it(toy: str) -> None:
    plain = names(families.suite(distribution="mambasdk-toy"))
    assert set(plain) >= CAUSAL
    assert plain["test_native_engine_equals_pytorch"] == [toy]
    assert "test_aoti_engine_equals_pytorch" not in plain
    assert not {"test_equals_the_golden", "test_parameter_counts_are_the_published_ones"} & set(plain)
    declared = families.Evidence(
        toy,
        counts={"toy-2": 1},
        forms={"layer norm": {"norm": "layer"}},
        dear=["test_bfloat16_model_follows_the_float32_one"],
    )
    more = names(families.suite(declared, slow=True))
    assert more["test_native_engine_equals_pytorch"] == [toy, f"{toy}-layer norm"]
    assert more["test_aoti_engine_equals_pytorch"] == [toy]
    assert more["test_parameter_counts_are_the_published_ones"] == ["toy-2"]
    assert "test_bfloat16_model_follows_the_float32_one" not in names(families.suite(declared))
    assert families.suite(distribution="mambasdk-other") == {}


def test_every_claim_of_the_readme_names_a_test_of_the_suite() -> None:
    known = {one.name for one in families.PROPERTIES} | {"test_logits_equal_those_of_transformers"}
    assert {test for sets in families.CLAIMS.values() for tests in sets for test in tests} <= known
    assert set(families.COUNTS) <= known


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[..., Any]) -> None:
    """CausalLM's method `name` gives change(model, original, *arguments)."""
    original = getattr(nn.CausalLM, name)
    monkeypatch.setattr(nn.CausalLM, name, lambda self, *a, **k: change(self, original, *a, **k))


def test_rows_that_meet_are_found(subject: families.Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    properties.test_rows_of_a_batch_are_as_if_alone(subject)

    def mixed(model: Any, original: Any, inputs: Any) -> Any:
        return {name: t + t.mean(0, keepdim=True).nan_to_num() for name, t in original(model, inputs).items()}

    replaced(monkeypatch, "native_outputs", mixed)
    with pytest.raises(AssertionError, match="toy: logits of row 0"):
        properties.test_rows_of_a_batch_are_as_if_alone(subject)


def test_a_state_that_is_forgotten_is_found(subject: families.Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    causal.test_any_split_continues_as_the_full_forward(subject)

    def forgetful(model: Any, original: Any, x: Any, state: Any = None, **options: Any) -> Any:
        return original(model, x, None if state is None else state.map(torch.zeros_like), **options)

    replaced(monkeypatch, "forward", forgetful)
    with pytest.raises(AssertionError, match=r"toy: logits of \["):
        causal.test_any_split_continues_as_the_full_forward(subject)
    with pytest.raises(AssertionError):
        causal.test_gradient_flows_through_the_state(subject)


def test_a_mask_that_is_ignored_is_found(subject: families.Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    causal.test_what_a_mask_leaves_out_is_not_there(subject)
    plain = nn.MixerModel.forward

    def deaf(self: Any, *arguments: Any, mask: Any = None, **options: Any) -> Any:
        return plain(self, *arguments, **options)

    monkeypatch.setattr(nn.MixerModel, "forward", deaf)
    with pytest.raises(AssertionError, match=r"right padding"):
        causal.test_what_a_mask_leaves_out_is_not_there(subject)


def test_a_native_form_of_something_else_is_found(
    subject: families.Subject, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engines.test_native_engine_equals_pytorch(subject, "", tmp_path_factory)
    other = families.Subject(subject.evidence)
    plain = graph.Graph.op

    def louder(self: Any, op: str, **arguments: Any) -> Any:
        made = plain(self, op, **arguments)
        return self.program.scale(made, factor=1.01) if op == "linear" else made

    monkeypatch.setattr(graph.Graph, "op", louder)
    with pytest.raises(AssertionError):
        engines.test_native_engine_equals_pytorch(other, "", tmp_path_factory)


def test_idle_parameters_and_wrong_counts_are_found(subject: families.Subject) -> None:
    properties.test_training_steps_reach_every_parameter_and_lower_the_loss(subject)
    idle = families.Subject(families.Evidence("toy", idle=["backbone.norm_f.weight"], counts={"toy-2": 7}))
    with pytest.raises(AssertionError, match="parameters without a gradient"):
        properties.test_training_steps_reach_every_parameter_and_lower_the_loss(idle)
    with pytest.raises(AssertionError):
        properties.test_parameter_counts_are_the_published_ones(idle, "toy-2")


# ---- goldens ----


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A golden folder `line` of a layer of three inputs."""
    monkeypatch.setenv(golden.VARIABLE, str(tmp_path))
    golden.write(tmp_path / "line", "config.json", {"in": 3})
    golden.write(tmp_path / "line", "weights.safetensors", {"weight": torch.tensor([[1.0, 2, 3]])})
    x = torch.tensor([[1.0, 1, 1], [0, 1, 2]])
    golden.write(tmp_path / "line", "io.safetensors", {"x": x, "y": torch.tensor([[6.0], [8]])})
    golden.write(tmp_path / "line", "io.safetensors", {"grad.weight": torch.tensor([[1.0, 2, 3]])})
    return tmp_path / "line"


def model(folder: Path, case: str) -> torch.nn.Module:
    made = torch.nn.Linear(golden.config(folder)["in"], 1, bias=False)
    made.load_state_dict(golden.load_file(folder / "weights.safetensors"))
    return made


def run(made: Any, given: Recorded) -> Tensors:
    assert given.config == {"in": 3}
    y = made(given["x"])
    y.sum().backward()
    return {"y": y, "grad.weight": made.weight.grad}


LINE = Golden(system="line", model=model, run=run, tolerance=Tolerance(1e-6))


def test_a_golden_compares_every_tensor(folder: Path) -> None:
    for dtype in (torch.float32, torch.float64):
        LINE.compare("line", folder, "", dtype)
    written = golden.record(LINE, model(folder, ""), {"x": torch.ones(4, 3)}, golden.config(folder))
    assert set(written) == {"x", "y", "grad.weight"}
    assert written["y"].tolist() == [[6.0]] * 4
    io = golden.read_io(folder, "")
    for change, message in (
        ({"y": io["y"] + 1e-3}, r"y: error 0\.001 \(absolute\), allowed 1e-06"),
        ({"y": io["y"][:1]}, r"y: \(2, 1\), expected \(1, 1\)"),
        ({"y": io["y"] * torch.nan}, "y: error inf"),
        ({"grad.weight": io["grad.weight"] * 1.1}, r"grad\.weight: error .*\(norm\), allowed 0\.001"),
        ({"z": io["y"] + 1}, r"nothing looks at \['z'\]"),
    ):
        save_file({**io, **change}, folder / "io.safetensors")
        with pytest.raises(AssertionError, match=message):
            LINE.compare("line", folder, "", torch.float32)


def test_what_is_missing_skips_and_says_so(folder: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match="no golden tensors circle in"):
        golden.folder_or_skip("circle")
    with pytest.raises(pytest.skip.Exception, match=r"no param_counts\.json .*does not hold the published facts"):
        golden.facts("line/param_counts.json")
    (folder / "param_counts.json").write_text(json.dumps({"line": 3}))
    assert golden.facts("line/param_counts.json") == {"line": 3}


@pytest.mark.parametrize(("of", "expected"), [("absolute", 3.0), ("largest", 0.75), ("rms", 1.5), ("norm", 1.25)])
def test_tolerances_measure_what_they_say(of: Any, expected: float) -> None:
    """Expected: largest 4, root mean square 2, norm 4. Differences: largest 3, norm 5."""
    tolerance = Tolerance(1, of)
    exact, difference = torch.tensor([4.0, 0, 0, 0]), torch.tensor([0, 3.0, 3, 7**0.5])
    assert tolerance.error(exact + difference, exact) == pytest.approx(expected)
    assert tolerance.error(torch.zeros(0), torch.zeros(0)) == 0
    nan = torch.full((1,), torch.nan)
    assert tolerance.error(nan, nan) == 0
    assert tolerance.error(nan, exact[:1]) == torch.inf

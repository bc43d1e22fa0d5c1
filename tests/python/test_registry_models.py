"""What holds for every registered family: a family that a plugin adds is tested here without another line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mambasdk
from mambasdk.cli import main
from mambasdk.models import build
from mambasdk.nn import ModelState
from mambasdk.plugins import get_host

FAMILIES = sorted(get_host().registrations.families)
CAUSAL = [name for name in FAMILIES if get_host().family(name).causal]

# Of the largest logit: the chunked and the step form sum in another order.
TOLERANCE = 1e-4


def tiny(name: str) -> Any:
    torch.manual_seed(0)
    family = get_host().family(name)
    return build(family, family.tiny).eval()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=TOLERANCE * max(1.0, float(b.detach().abs().max())), rtol=0)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("pieces", [[13], [1] * 13, [0, 5, 0, 1, 7], [2, 11], [12, 1, 0]])
def test_any_split_of_a_sequence_gives_the_same_logits_and_state(family: str, pieces: list[int], grad: bool) -> None:
    model = tiny(family)
    tokens = model.example_inputs()["tokens"][:, :13]
    with torch.set_grad_enabled(grad):
        whole = model(tokens)
        state, logits = None, []
        for piece in tokens.split(pieces, 1):
            out = model(piece, state)
            state = out.state
            logits.append(out.logits)
    close(torch.cat(logits, 1), whole.logits)
    assert state is not None
    assert state.tokens_seen.tolist() == [13] * tokens.shape[0]
    for ours, theirs in zip(state, whole.state, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            close(a, b)


@pytest.mark.parametrize("family", CAUSAL)
def test_zero_state_is_no_state_and_a_state_is_not_written_to(family: str) -> None:
    model = tiny(family)
    tokens = model.example_inputs()["tokens"]
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            state = model.initial_state(tokens.shape[0])
            close(model(tokens, state).logits, model(tokens).logits)
            state = model(tokens).state
            copy = state.clone()
            for length in (1, 3):
                model(tokens[:, :length], state)
            for a, b in zip(state, copy, strict=True):
                assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("family", CAUSAL)
def test_state_survives_a_file_and_fans_out(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    tokens = model.example_inputs()["tokens"]
    state = model(tokens).state
    state.save(tmp_path / "state.safetensors")
    restored = ModelState.load(tmp_path / "state.safetensors")
    assert torch.equal(model(tokens, restored).logits, model(tokens, state).logits)
    rows = [1, 0, 0]
    fanned = model(tokens[rows], restored.select(rows))
    close(fanned.logits, model(tokens, state).logits[rows])
    assert restored.batch_size == 2
    assert fanned.state.tokens_seen.tolist() == [2 * tokens.shape[1]] * 3


@pytest.mark.parametrize("family", CAUSAL)
def test_gradient_flows_through_the_state(family: str) -> None:
    model = tiny(family)
    tokens = model.example_inputs()["tokens"]
    half = tokens.shape[1] // 2
    weights = [p for p in model.parameters() if p.requires_grad]
    whole = torch.autograd.grad(model(tokens).logits[:, half:].square().mean(), weights, allow_unused=True)
    second = model(tokens[:, half:], model(tokens[:, :half]).state)
    split = torch.autograd.grad(second.logits.square().mean(), weights, allow_unused=True)
    for a, b in zip(split, whole, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            close(a, b)
    detached = model(tokens[:, half:], model(tokens[:, :half]).state.detach())
    assert torch.equal(detached.logits, second.logits)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (1, 1)])
def test_empty_and_single_inputs(family: str, shape: tuple[int, int]) -> None:
    model = tiny(family)
    out = model(torch.zeros(shape, dtype=torch.int64))
    assert out.logits.shape[:2] == shape
    assert out.state.batch_size == shape[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_package_round_trip_is_exact_and_verifies(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    mambasdk.save_package(model, tmp_path / "package")
    again = mambasdk.load(tmp_path / "package")
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)
    report = mambasdk.verify(tmp_path / "package")
    assert report.golden
    assert "torch" in report.errors
    assert report.passed, report


@pytest.mark.parametrize("name", mambasdk.list_models())
def test_every_variant_builds_on_the_meta_device(name: str) -> None:
    model = mambasdk.create_model(name, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_bench_measures_every_family(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"--set={name}={json.dumps(value)}" for name, value in get_host().family(family).tiny.items()]
    assert main(["bench", family, *settings, "--length=8", "--decode=2", "--repeats=1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {"torch"} <= {row["engine"] for row in rows}
    assert any(row["work"] == "forward+backward" for row in rows)
    assert all(row["seconds"] > 0 for row in rows)

"""The study of a bidirectional grammar: its sentences are what it says they are, and its models can be trained."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).parents[3] / "examples" / "hydra_grammar" / "grammar.py"


@pytest.fixture(scope="module")
def grammar() -> Any:
    if not SCRIPT.is_file():
        pytest.skip("the tests run without the repository")
    spec = importlib.util.spec_from_file_location("grammar", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_asked_is_told_on_the_side_that_is_said(grammar: Any) -> None:
    given = grammar.sentences(np.random.default_rng(0), 50)
    for row, labels, before, after in zip(*(each.tolist() for each in given), strict=True):
        keys, values = row[0::2], row[1::2]
        for place, (key, label) in enumerate(zip(keys, labels[1::2], strict=True)):
            told = [j for j in range(len(keys)) if keys[j] == key and values[j] != grammar.MASK]
            if label < 0:
                assert values[place] != grammar.MASK or not told
                continue
            assert values[place] == grammar.MASK
            assert {values[j] for j in told} == {label}
            assert before[2 * place + 1] == any(j < place for j in told)
            assert after[2 * place + 1] == any(j > place for j in told)
        assert all(label < 0 for label in labels[0::2])


def test_only_the_causal_model_cannot_hear_what_comes_after(grammar: Any) -> None:
    """A change at the last place reaches the first in all models but one; two steps of training are finite."""
    for name, make in grammar.models().items():
        torch.manual_seed(0)
        model = make().eval()
        tokens = grammar.sentences(np.random.default_rng(1), 1).tokens
        other = tokens.clone()
        other[0, -1] = (other[0, -1] + 1) % grammar.MASK
        with torch.no_grad():
            moved = (model(tokens).logits[0, 0] - model(other).logits[0, 0]).abs().max()
        assert bool(moved > 0) != ("causal" in name), name
    scores = grammar.train(grammar.models()["Hydra"], 2, 2, 1e-3, 0)
    assert np.isfinite(scores["loss"])
    assert 0 <= scores["all"] <= 1

"""The synthetic studies: what they ask is what they say, and the claims that hold are held, by whole runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLES = Path(__file__).parents[3] / "examples" / "synthetic"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A script of the folder as a module."""
    if not EXAMPLES.is_dir():
        pytest.skip("the tests run without the repository")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def test_a_number_is_asked_for_after_its_name(study: Callable[[str], Any]) -> None:
    module = study("hybrid_recall")
    for entries in (2, 5, 12):
        tokens, labels = module.phonebook(8, entries, torch.Generator().manual_seed(0))
        for row, wanted in zip(tokens.tolist(), labels.tolist(), strict=True):
            book = {row[i]: row[i + 1 : i + 3] for i in range(0, 3 * entries, 3)}
            assert len(book) == entries
            places = range(3 * entries, len(row), 4)
            assert len({row[place + 1] for place in places}) == len(places) == min(8, entries)
            for place in places:
                number = book[row[place + 1]]
                assert row[place] == module.MARK
                assert row[place + 2 : place + 4] == number
                assert wanted[place : place + 4] == [-100, *number, -100]
            assert all(label == -100 for label in wanted[: 3 * entries])


def test_copies_and_pairs_are_asked_for_once_told(study: Callable[[str], Any]) -> None:
    tokens, labels = study("hybrid_recall").copying(8, 5, torch.Generator().manual_seed(0))
    assert torch.equal(labels[labels != -100].view(8, 5), tokens[:, :5])
    assert torch.equal(labels[:, 5:-1], tokens[:, 6:])
    tokens, labels = study("mqar").pairs(8, 6, torch.Generator().manual_seed(0))
    for row, wanted in zip(tokens.tolist(), labels.tolist(), strict=True):
        told = dict(zip(row[:12:2], row[1:12:2], strict=True))
        assert len(told) == 6
        assert sorted(row[12::2]) == sorted(told)
        assert wanted[12::2] == [told[key] for key in row[12::2]]
        assert all(label == -100 for label in [*wanted[:12], *wanted[13::2]])


def test_the_compared_models_have_equal_parameters(study: Callable[[str], Any]) -> None:
    module = study("hybrid_recall")
    counts = {name: module.parameters(module.build(name, 37)) for name in module.PATTERNS}
    assert max(counts.values()) < 1.01 * min(counts.values())


def test_an_answer_counts_as_a_whole(study: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fitting = study("fitting")
    labels = torch.tensor([[-100, 1, 2], [-100, 1, 0]])
    answers = torch.nn.functional.one_hot(torch.tensor([[0, 1, 2], [0, 1, 2]])).float()
    monkeypatch.setattr(fitting, "logits_of", lambda model, tokens: answers)
    assert fitting.accuracy(None, labels, labels) == 0.75
    assert fitting.accuracy(None, labels, labels, span=2) == 0.5


def test_the_studies_of_recall_run(study: Callable[[str], Any], tmp_path: Path) -> None:
    """Two steps of each: shares and bits are numbers that such models can have, and the pictures are drawn."""
    picture = tmp_path / "plot.png"
    result = study("hybrid_recall").main(["--quick", "--plot", str(picture)])
    assert picture.stat().st_size > 0
    for task in ("phonebook", "copying"):
        assert set(result[task]) == set(result["patterns"])
        assert all(0 <= share <= 1 for found in result[task].values() for share in found.values())
    assert all(6 < bits < 9 for bits in result["text"].values())  # of 8: nothing is learned yet
    picture.unlink()
    found = study("mqar").main(["--steps", "2", "--batch", "2", "--states", "16", "--plot", str(picture)])
    assert set(found["recall, N = 16"]) == {"mamba2", "mamba3"}
    assert picture.stat().st_size > 0


@pytest.mark.slow
def test_selective_copying_needs_selection(study: Callable[[str], Any]) -> None:
    accuracy = study("selective_copying").main([])
    assert accuracy["selective"] > 0.95
    assert accuracy["time_invariant"] < 0.5


@pytest.mark.slow
def test_induction_heads_extrapolate(study: Callable[[str], Any]) -> None:
    accuracy = study("induction_heads").main([])
    assert set(accuracy) == {64, 128, 256, 512, 1024}
    assert min(accuracy.values()) > 0.95


@pytest.mark.slow
def test_parity_needs_rotation(study: Callable[[str], Any], tmp_path: Path) -> None:
    accuracy = study("state_tracking").main(["--tasks", "parity", "--plot", str(tmp_path / "accuracy.png")])["parity"]
    assert accuracy["mamba3"][16] > 0.95
    assert accuracy["mamba2"][16] < 0.7
    assert accuracy["mamba3 without rotation"][16] < 0.7
    assert (tmp_path / "accuracy.png").stat().st_size > 0

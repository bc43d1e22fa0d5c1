"""The example of conversations: its generator and its paired test are what they say, and a model trains."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[3] / "examples" / "conversation_emotions"


@pytest.fixture(scope="module")
def example() -> Any:
    if not FOLDER.is_dir():
        pytest.skip("the tests run without the repository")
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("generator"), importlib.import_module("studies")
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("generator", "studies"):
            sys.modules.pop(name, None)


def test_moods_go_on_and_one_modality_is_corrupted(example: Any) -> None:
    generator, _ = example
    talks = generator.conversations(300, 0)
    same = total = 0
    views, moods = [], []
    for talk in talks:
        last: dict[int, Any] = {}
        for speaker, mood in zip(talk.speakers.tolist(), talk.labels, strict=True):
            if speaker in last:
                same += last[speaker] == mood
                total += 1
            last[speaker] = mood
        views.append(talk.features["text"])
        moods += talk.labels
    expected = generator.STAYS + (1 - generator.STAYS) / len(generator.MOODS)
    assert abs(same / total - expected) < 0.03
    clean = generator.conversations(300, 0, corrupted=False)
    spoilt, whole = np.concatenate(views), np.concatenate([talk.features["text"] for talk in clean])
    said = [label for talk in clean for label in talk.labels]
    for mood in generator.MOODS:  # where a third of the views is noise, their mean is two thirds
        a, b = spoilt[np.array(moods) == mood].mean(0), whole[np.array(said) == mood].mean(0)
        assert a @ b / (b @ b) == pytest.approx(2 / 3, abs=0.1)
    assert sum(map(len, generator.utterances(talks[:3]))) == sum(map(len, talks[:3]))
    assert list(generator.only(talks[:1], "audio")[0].features) == ["audio"]


def test_paired_test_is_students(example: Any) -> None:
    """p of t = 2.262 with 9 degrees of freedom is 0.05, of t = 3.250 it is 0.01 (any table of Student's t)."""
    _, studies = example
    spread = np.array([-1.5, -1.1, -0.7, -0.3, -0.1, 0.1, 0.3, 0.7, 1.1, 1.5])
    unit = spread / (spread.std(ddof=1) / math.sqrt(10))  # its mean's error is 1
    for t, p in ((2.262, 0.05), (3.250, 0.01)):
        difference, found = studies.paired_test(unit + t, np.zeros(10))
        assert difference == pytest.approx(t)
        assert found == pytest.approx(p, rel=2e-3)
    assert math.isnan(studies.paired_test([1.0], [0.5])[1])


@pytest.mark.parametrize("name", ["bidirectional", "forward only", "utterance only", "audio alone"])
def test_a_model_learns_a_little_in_a_few_steps(example: Any, name: str) -> None:
    generator, studies = example
    score, parameters = studies.trained(name, 0, 40, generator.conversations(40, 0), generator.conversations(20, 1))
    assert score > 0.3  # chance is 0.25
    assert parameters < 40_000

"""`mambasdk evaluate`: scores of classes by their definitions, and what the command makes of a head's evaluation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import ClassScores, classification, confusion_matrix, draw_confusion

CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30)


@settings(max_examples=80)
@given(CLASSES)
def test_scores_of_classes_are_their_definitions(pairs: list[tuple[int, int]]) -> None:
    y = np.array([a for a, _ in pairs], int)
    found = np.array([b for _, b in pairs], int)
    matrix = confusion_matrix(y, found, 4)
    scores = ClassScores.of(matrix)
    for c in range(4):
        hits = int(((y == c) & (found == c)).sum())
        given_, predicted = int((y == c).sum()), int((found == c).sum())
        assert matrix[c].sum() == scores.support[c] == given_
        assert scores.recall[c] == (hits / given_ if given_ else 0)
        assert scores.precision[c] == (hits / predicted if predicted else 0)
        both = scores.precision[c] + scores.recall[c]
        assert scores.f1[c] == pytest.approx(2 * scores.precision[c] * scores.recall[c] / both if both else 0)


def test_classification_by_hand() -> None:
    scores = np.array([[3.0, 1, 0], [0, 2, 1], [1, 0, 2], [2, 1, 0]])
    made = classification([0, 1, 1, 2], scores, ["a", "b", "c"], top_k=2, data={"items": 4})
    assert made.metrics["accuracy"] == 0.5
    assert made.metrics["top2_accuracy"] == 0.5
    assert made.metrics["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert made.details["confusion_matrix"] == [[1, 0, 0], [0, 1, 1], [1, 0, 0]]
    assert made.tables["classes"][1] == {"class": "b", "precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}
    assert math.isnan(classification([], np.zeros((0, 2)), ["a", "b"]).metrics["accuracy"])
    with pytest.raises(InvalidArgumentError, match=r"bad scores: expected \(2, 3\), got \(2, 2\)"):
        classification([0, 1], np.zeros((2, 2)), ["a", "b", "c"])
    with pytest.raises(InvalidArgumentError, match="bad targets: expected 0 to 1, got 5"):
        confusion_matrix([0, 5], [0, 0], 2)


@pytest.mark.parametrize("count", [2, 60])
def test_the_confusion_matrix_is_a_picture(tmp_path: Path, count: int) -> None:
    matrix = np.eye(count, dtype=np.int64) * 5
    draw_confusion(tmp_path / "m.png", matrix, [f"class {i}" for i in range(count)])
    assert Image.open(tmp_path / "m.png").format == "PNG"


EVALUATE = """
    def add_evaluate_arguments(self, parser):
        parser.add_argument("--half", action="store_true")
    def evaluate(self, args):
        from mambasdk.evaluation import Evaluation
        return Evaluation({"score": 0.25 if args.half else float("nan")}, data={"files": len(args.data)},
            tables={"rows": [{"name": "x", "value": 1.5}]}, details={"batch": args.batch},
            pictures={"dots": lambda path: path.write_bytes(b"PNG")})
"""


@pytest.fixture
def package(plugin_site: fakes.Site, tmp_path: Path) -> Path:
    source = fakes.FAMILY_MODEL.replace("class Hello:", EVALUATE + "\nclass Hello:")
    (plugin_site.folder / "toy_model.py").write_text(source)
    plugin_site.install("mambasdk-toy", "toy", "toy_plugin", fakes.FAMILY_PLUGIN)
    mambasdk.save_package(mambasdk.create_model("toy-2"), tmp_path / "package")
    return tmp_path / "package"


def test_the_command_prints_what_a_head_measured_and_draws_its_pictures(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["evaluate", str(package), "--data", "a", "b"]
    assert main([*base, "--half", "--plot", str(tmp_path / "new" / "plots"), "--batch", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "package": str(package),
        "metrics": {"score": 0.25},
        "data": {"files": 2},
        "rows": [{"name": "x", "value": 1.5}],
        "batch": 3,
        "pictures": {"dots": str(tmp_path / "new" / "plots" / "dots.png")},
    }
    assert (tmp_path / "new" / "plots" / "dots.png").read_bytes() == b"PNG"
    assert main(base) == 0
    shown = capsys.readouterr().out
    assert "2 files" in shown
    assert "score  undefined" in shown
    assert main([*base, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == {"score": None}


def test_evaluate_says_what_it_cannot_measure(
    package: Path, toy_errors: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in toy_errors:
        assert main(["evaluate", *arguments]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture
def toy_errors(package: Path, tmp_path: Path) -> list[tuple[list[str], str]]:
    (tmp_path / "file").write_text("x")
    return [
        (["toy-2", "--data", "a"], "toy-2: this is the name of a model, and there is no such folder"),
        ([str(package), "--data", "a", "--batch", "0"], "bad --batch: expected 1 or more, got 0"),
        ([str(package), "--data", "a", "--plot", str(tmp_path / "file" / "x")], "cannot be made"),
    ]

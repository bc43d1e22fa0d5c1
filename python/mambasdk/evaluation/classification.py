"""Scores of classifiers that give one class each: accuracy, per-class scores, confusion matrix. NumPy only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk.evaluation.evaluation import Evaluation

Counts = npt.NDArray[np.int64]
_LARGEST_LABELLED = 40  # classes whose names fit beside a matrix


@dataclass(frozen=True)
class ClassScores:
    """precision, recall, f1: float64 (C); 0 where nothing was predicted, where there is nothing, where both hold.

    support: int64 (C), examples of each class.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    support: Counts

    @classmethod
    def of(cls, matrix: Counts) -> ClassScores:
        """From a confusion matrix (C, C)."""
        hits, given, found = np.diag(matrix).astype(np.float64), matrix.sum(1), matrix.sum(0)
        return cls(_share(hits, found), _share(hits, given), _share(2 * hits, given + found), given)


def _share(part: npt.NDArray[np.float64], whole: Counts) -> npt.NDArray[np.float64]:
    """Part / whole, 0 where there is nothing."""
    result: npt.NDArray[np.float64] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return result


def confusion_matrix(targets: Any, predicted: Any, classes: int) -> Counts:
    """int64 (C, C): how often class i (row) was taken for class j. targets, predicted: integers (N), 0 to C - 1."""
    y, found = np.asarray(targets), np.asarray(predicted)
    for name, values in (("targets", y), ("predicted", found)):
        if values.shape != y.shape or values.ndim != 1:
            raise InvalidArgumentError(
                f"bad {name}", where="confusion_matrix", expected=f"({y.size},)", got=values.shape
            )
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise InvalidArgumentError(
                f"bad {name}", where="confusion_matrix", expected=f"0 to {classes - 1}", got=int(values.max())
            )
    matrix: Counts = np.bincount(y.astype(np.int64) * classes + found, minlength=classes * classes).astype(np.int64)
    return matrix.reshape(classes, classes)


def classification(
    targets: Any, scores: Any, labels: Sequence[str], *, data: dict[str, Any] | None = None, top_k: int = 5
) -> Evaluation:
    """The evaluation of scores (N, C) against classes (N): accuracy, macro F1, top-k accuracy, each class, confusions.

    labels: names of the C classes. Macro F1 is the mean over the classes that occur in the data. Top-k accuracy is
    given where there are more than k classes.
    """
    y, values = np.asarray(targets), np.asarray(scores)
    if values.ndim != 2 or values.shape != (y.size, len(labels)):
        raise InvalidArgumentError(
            "bad scores", where="classification", expected=(y.size, len(labels)), got=values.shape
        )
    found = values.argmax(1) if y.size else np.zeros(0, np.int64)
    matrix = confusion_matrix(y, found, len(labels))
    each = ClassScores.of(matrix)
    present = each.support > 0
    metrics = {
        "accuracy": float((y == found).mean()) if y.size else float("nan"),
        "macro_f1": float(each.f1[present].mean()) if present.any() else float("nan"),
    }
    if 0 < top_k < len(labels) and y.size:
        best = np.argpartition(-values, top_k - 1, axis=1)[:, :top_k]
        metrics[f"top{top_k}_accuracy"] = float((best == y[:, None]).any(1).mean())
    rows = [
        {
            "class": label,
            "precision": float(each.precision[i]),
            "recall": float(each.recall[i]),
            "f1": float(each.f1[i]),
            "support": int(each.support[i]),
        }
        for i, label in enumerate(labels)
    ]
    return Evaluation(
        metrics,
        data=dict(data or {}),
        tables={"classes": rows},
        details={"confusion_matrix": matrix.tolist(), "labels": list(labels)},
        pictures={"confusion_matrix": lambda path: draw_confusion(path, matrix, labels)},
    )


def draw_confusion(path: str | os.PathLike[str], matrix: Counts, labels: Sequence[str]) -> None:
    """Write the PNG `path`: shares of each class (row) by what it was taken for; counts where they fit."""
    require_module("matplotlib", "drawing the confusion matrix", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(labels)
    totals = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side = min(4.5 + 0.35 * count, 14)
    figure = Figure(figsize=(side + 1, side), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the class", fraction=0.046)
    if count <= _LARGEST_LABELLED:
        names = [label if len(label) <= 20 else label[:19] + "…" for label in labels]
        axes.set_xticks(range(count), names, rotation=45, ha="right")
        axes.set_yticks(range(count), names)
    if count <= 20:
        for row, column in np.ndindex(count, count):
            if matrix[row, column]:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    figure.savefig(Path(path))

"""How good scores are. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def accuracy(scores: Array, targets: Array) -> float:
    """The share of rows whose best score is a label. scores, targets (0 or 1): (clips, C)."""
    best = scores.argmax(1)
    return float((targets[np.arange(len(targets)), best] > 0).mean())


def mean_average_precision(scores: Array, targets: Array) -> float:
    """Average precision of every label that has a clip, averaged over the labels. Arguments as `accuracy`.

    The precision at each hit, with equal scores counted together (as scikit-learn's average_precision_score).
    """
    found = [average_precision(scores[:, label], targets[:, label] > 0) for label in np.flatnonzero(targets.any(0))]
    return float(np.mean(found)) if found else float("nan")


def average_precision(scores: Array, hits: Array) -> float:
    """Of one label: scores (clips) and whether each clip has it, of which at least one does."""
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(hits[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last of equal scores
    precision = right[ends] / (ends + 1)
    gained = np.diff(right[ends], prepend=0) / right[-1]
    return float((precision * gained).sum())

"""Metrics of the Long Range Graph Benchmark and of OGB. Arrays in, floats out; no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import ShapeError

Array = npt.NDArray[Any]


def accuracy(y: Any, predicted: Any) -> float:
    """Share of equal labels. y, predicted: integers (N); NaN where N is 0."""
    y, predicted = _same(y, predicted, "accuracy")
    return float((y == predicted).mean()) if y.size else float("nan")


def macro_f1(y: Any, predicted: Any, classes: int | None = None) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN). y, predicted: integers (N).

    classes: how many there are; None takes those that occur. A class that neither has nor is predicted counts as 0
    where `classes` is given, as LRGB's scikit-learn call over all its labels does.
    """
    y, predicted = _same(y, predicted, "macro_f1")
    labels = np.unique(np.concatenate((y, predicted))) if classes is None else np.arange(classes)
    scores = []
    for label in labels:
        hits = float(((y == label) & (predicted == label)).sum())
        total = float((y == label).sum() + (predicted == label).sum())
        scores.append(2 * hits / total if total else 0.0)
    return float(np.mean(scores)) if scores else float("nan")


def mean_absolute_error(y: Any, predicted: Any) -> float:
    """Mean of |y - predicted| over all entries whose y is a number."""
    y, predicted = _same(y, predicted, "mean_absolute_error")
    known = ~np.isnan(y.astype(np.float64))
    return float(np.abs(y[known] - predicted[known]).mean()) if known.any() else float("nan")


def average_precision(y: Any, scores: Any) -> float:
    """Mean over labels of the area under precision and recall, sum of (R_n - R_(n-1)) P_n.

    y: (N, C) or (N) of 0 and 1, NaN where it is not known; scores: the same shape. Labels without a known positive or
    without a known negative are left out.
    """
    return _mean_over_labels(y, scores, _average_precision, "average_precision")


def roc_auc(y: Any, scores: Any) -> float:
    """Mean over labels of the area under the ROC curve; arguments as average_precision."""
    return _mean_over_labels(y, scores, _roc_auc, "roc_auc")


def ranking(graphs: Any, hits: tuple[int, ...] = (1, 3, 10)) -> dict[str, float]:
    """MRR and Hits@k of pairs of nodes, each ranked among all targets of its source, other true pairs left out.

    graphs: of each graph (scores (n, n), pairs (2, Q) of the true ones). Metrics are means over a graph's pairs, then
    over the graphs that have any (PCQM-Contact). Equal scores share the mean rank.
    """
    found: list[list[float]] = []
    for given, true_pairs in graphs:
        scores, pairs = np.asarray(given, np.float64), np.asarray(true_pairs)
        if pairs.shape[-1] == 0:
            continue
        true = np.zeros(scores.shape, bool)
        true[pairs[0], pairs[1]] = True
        ranks = []
        for source, target in pairs.T:
            others = scores[source][~true[source]]
            score = scores[source, target]
            ranks.append(1 + (others > score).sum() + 0.5 * (others == score).sum())
        rank = np.asarray(ranks)
        found.append([float((1 / rank).mean()), *(float((rank <= k).mean()) for k in hits)])
    means = np.mean(found, 0) if found else np.full(1 + len(hits), np.nan)
    return dict(zip(("mrr", *(f"hits@{k}" for k in hits)), map(float, means), strict=True))


def _same(y: Any, other: Any, where: str) -> tuple[Array, Array]:
    y, other = np.asarray(y), np.asarray(other)
    if y.shape != other.shape:
        raise ShapeError("bad predictions", where=where, expected=y.shape, got=other.shape)
    return y, other


def _mean_over_labels(y: Any, scores: Any, metric: Any, where: str) -> float:
    y, scores = _same(np.asarray(y, np.float64), np.asarray(scores, np.float64), where)
    if y.ndim == 1:
        y, scores = y[:, None], scores[:, None]
    values = []
    for column in range(y.shape[1]):
        known = ~np.isnan(y[:, column])
        positive = y[known, column] > 0.5
        if positive.any() and not positive.all():
            values.append(metric(positive, scores[known, column]))
    return float(np.mean(values)) if values else float("nan")


def _average_precision(positive: Array, scores: Array) -> float:
    """Precision and recall change together for equal scores."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each run of equal scores
    precision = hits[last] / (last + 1)
    recall = hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def _roc_auc(positive: Array, scores: Array) -> float:
    """The chance that a positive scores above a negative, ties counting half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    ups, downs = int(positive.sum()), int((~positive).sum())
    return float((rank[positive].sum() - ups * (ups + 1) / 2) / (ups * downs))

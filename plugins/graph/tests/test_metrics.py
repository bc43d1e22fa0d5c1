"""Metrics, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn

from mambasdk.errors import ShapeError
from mambasdk_graph import metrics


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("coarse", [False, True])
def test_ranked_metrics_skip_what_is_not_known(seed: int, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, (60, 4)).astype(float)
    scores = random.normal(size=(60, 4)).round(0 if coarse else 9)  # coarse: many ties
    y[random.random(y.shape) < 0.3] = np.nan
    y[:, 3] = np.where(np.isnan(y[:, 3]), np.nan, 1)  # a label without negatives is left out
    columns = [(y[~np.isnan(y[:, c]), c], scores[~np.isnan(y[:, c]), c]) for c in range(3)]
    expected = np.mean([sklearn.average_precision_score(a, b) for a, b in columns])
    assert metrics.average_precision(y, scores) == pytest.approx(expected)
    assert metrics.roc_auc(y, scores) == pytest.approx(np.mean([sklearn.roc_auc_score(a, b) for a, b in columns]))
    assert metrics.roc_auc(*columns[0]) == pytest.approx(sklearn.roc_auc_score(*columns[0]))
    assert np.isnan(metrics.average_precision(np.ones(3), np.ones(3)))


def test_classes_and_values() -> None:
    random = np.random.default_rng(0)
    y, found = random.integers(0, 5, 200), random.integers(0, 5, 200)
    assert metrics.accuracy(y, found) == pytest.approx(sklearn.accuracy_score(y, found))
    assert metrics.macro_f1(y, found) == pytest.approx(sklearn.f1_score(y, found, average="macro"))
    every = sklearn.f1_score(y, found, average="macro", labels=range(7), zero_division=0)
    assert metrics.macro_f1(y, found, 7) == pytest.approx(every)
    values = np.array([[1.0, np.nan], [3.0, 4.0]])
    assert metrics.mean_absolute_error(values, [[2.0, 9.0], [3.0, 0.0]]) == pytest.approx(5 / 3)
    with pytest.raises(ShapeError, match=r"accuracy: bad predictions: expected \(2,\), got \(3,\)"):
        metrics.accuracy([1, 2], [1, 2, 3])


def test_ranking_leaves_other_true_pairs_out() -> None:
    scores = np.array([[0.0, 5.0, 4.0, 3.0], [0.0, 0.0, 0.0, 0.0], [9.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    pairs = np.array([[0, 0, 2], [2, 3, 1]])
    # (0, 2): 5 is better, 3 is true too -> rank 2; (0, 3): 5 is better -> 2; (2, 1): 9, 2, 3 are better -> 4.
    found = metrics.ranking([(scores, pairs), (scores, np.zeros((2, 0), int))], hits=(1, 2))
    assert found == pytest.approx({"mrr": (0.5 + 0.5 + 0.25) / 3, "hits@1": 0.0, "hits@2": 2 / 3})
    tied = metrics.ranking([(np.zeros((3, 3)), np.array([[0], [1]]))], hits=(1, 2))
    assert tied == pytest.approx({"mrr": 0.5, "hits@1": 0.0, "hits@2": 1.0})

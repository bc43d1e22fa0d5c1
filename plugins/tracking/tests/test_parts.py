"""Assignment and filter: exact against SciPy on the padded problem, and against the golden filter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.optimize import linear_sum_assignment

from mambasdk_tracking import kalman_predict, kalman_update, linear_assignment

SHAPES = [(5, 7), (7, 5), (40, 30), (1, 9), (9, 1), (100, 101), (0, 3), (3, 0)]


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("limit", [0.05, 0.4, 2.0])
def test_assignment_is_the_optimum_of_the_padded_problem(rows: int, columns: int, limit: float) -> None:
    cost = np.random.default_rng(rows * 1000 + columns).random((rows, columns))
    padded = np.full((rows + columns, rows + columns), limit / 2)
    padded[:rows, :columns] = cost
    padded[rows:, columns:] = 0
    _, chosen = linear_sum_assignment(padded)
    found = linear_assignment(cost, limit)
    assert found.tolist() == [int(j) if j < columns else -1 for j in chosen[:rows]]
    pairs = found >= 0
    assert (cost[np.flatnonzero(pairs), found[pairs]] <= limit).all()


def test_assignment_is_not_threshold_after_the_fact() -> None:
    """The cheapest complete matching costs 0.95; under a limit of 0.6 one cheap pair and two left out cost 0.7."""
    cost = np.array([[0.1, 0.5], [0.45, 0.9]])
    assert linear_sum_assignment(cost)[1].tolist() == [1, 0]
    assert linear_assignment(cost, 0.9).tolist() == [1, 0]
    assert linear_assignment(cost, 0.6).tolist() == [0, -1]


def test_forbidden_pairs_ties_and_whole_numbers() -> None:
    cost = np.array([[np.inf, 0.2], [np.nan, 0.1]])
    assert linear_assignment(cost, 0.7).tolist() == [-1, 1]
    assert linear_assignment(np.zeros((3, 3)), 1.0).tolist() == [0, 1, 2]
    assert linear_assignment(np.full((2, 2), 5.0), 1.0).tolist() == [-1, -1]
    chance = np.random.default_rng(0)
    for _ in range(50):
        whole = chance.integers(0, 5, (8, 6)).astype(float)
        padded = np.full((14, 14), 1.5)
        padded[:8, :6], padded[8:, 6:] = whole, 0
        rows, columns = linear_sum_assignment(padded)
        found = linear_assignment(whole, 3.0)
        pairs = found >= 0
        total = whole[np.flatnonzero(pairs), found[pairs]].sum() + 1.5 * (14 - 2 * pairs.sum())
        assert total == pytest.approx(padded[rows, columns].sum())


def test_strided_costs() -> None:
    cost = np.random.default_rng(0).random((20, 30))
    assert linear_assignment(cost.T[::2], 0.5).tolist() == linear_assignment(cost.T[::2].copy(), 0.5).tolist()


def test_kalman_golden(golden: Callable[[str], Path]) -> None:
    tensors = load_file(golden("mambatrack") / "kalman.safetensors")
    measured = tensors["measurements_xyah"]
    height = measured[0, 3]
    std = np.array([height / 10, height / 10, 1e-2, height / 10, height / 16, height / 16, 1e-5, height / 16])
    mean = np.concatenate([measured[0], np.zeros(4)])[None]  # (1, 8)
    covariance = np.diag(std**2)[None]  # (1, 8, 8)
    for step in range(14):
        mean, covariance = kalman_predict(mean, covariance)
        np.testing.assert_allclose(mean[0], tensors["pred_mean"][step], atol=1e-9)
        np.testing.assert_allclose(covariance[0], tensors["pred_cov"][step], atol=1e-9)
        if step not in tensors["missed_steps"]:
            mean, covariance = kalman_update(mean, covariance, measured[step + 1][None])
        np.testing.assert_allclose(mean[0], tensors["post_mean"][step], atol=1e-9)
        np.testing.assert_allclose(covariance[0], tensors["post_cov"][step], atol=1e-9)

"""Assignment and filter: exact against SciPy on the padded problem, and against the golden filter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file
from scipy.optimize import linear_sum_assignment

from mambasdk_tracking import kalman_predict, kalman_update, linear_assignment

Array = npt.NDArray[Any]
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
    mean, covariance = (part[None] for part in first_estimate(measured[0]))  # (1, 8), (1, 8, 8)
    for step in range(len(tensors["pred_mean"])):
        mean, covariance = kalman_predict(mean, covariance)
        np.testing.assert_allclose(mean[0], tensors["pred_mean"][step], atol=1e-9)
        np.testing.assert_allclose(covariance[0], tensors["pred_cov"][step], atol=1e-9)
        if step not in tensors["missed_steps"]:
            mean, covariance = kalman_update(mean, covariance, measured[step + 1][None])
        np.testing.assert_allclose(mean[0], tensors["post_mean"][step], atol=1e-9)
        np.testing.assert_allclose(covariance[0], tensors["post_cov"][step], atol=1e-9)


# ---- the filter by its formulas, which also writes another golden set of the same layout ----


def first_estimate(measured: Array) -> tuple[Array, Array]:
    """Mean (8) and covariance (8, 8) from centre x, centre y, aspect and height: 2 and 10 times a step's deviation."""
    height = measured[3]
    std = np.array([height / 10, height / 10, 1e-2, height / 10, height / 16, height / 16, 1e-5, height / 16])
    return np.concatenate([measured, np.zeros(4)]), np.diag(std**2)


def predicted(mean: Array, covariance: Array) -> tuple[Array, Array]:
    """x = F x, P = F P F^T + Q: constant velocity, deviations of 1/20 and 1/160 of the height."""
    h = mean[3]
    transition = np.eye(8) + np.eye(8, k=4)
    noise = np.diag(np.square([h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160]))
    return transition @ mean, transition @ covariance @ transition.T + noise


def updated(mean: Array, covariance: Array, measured: Array) -> tuple[Array, Array]:
    """K = P H^T S^-1, x += K (y - H x), P -= K S K^T with S = H P H^T + R."""
    h = mean[3]
    innovation = covariance[:4, :4] + np.diag(np.square([h / 20, h / 20, 1e-1, h / 20]))
    gain = np.linalg.solve(innovation, covariance[:4]).T
    return mean + gain @ (measured - mean[:4]), covariance - gain @ innovation @ gain.T


def test_filter_follows_its_formulas() -> None:
    chance = np.random.default_rng(1)
    measured = np.array([300.0, 200, 0.4, 90]) + chance.normal(0, 1, (9, 4)) * [6, 6, 0.01, 2]
    mean, covariance = first_estimate(measured[0])
    ours = mean[None], covariance[None]
    for row in measured[1:]:
        mean, covariance = updated(*predicted(mean, covariance), row)
        ours = kalman_update(*kalman_predict(*ours), row[None])
        np.testing.assert_allclose(ours[0][0], mean, atol=1e-9)
        np.testing.assert_allclose(ours[1][0], covariance, atol=1e-9)


def write_golden(root: Path) -> None:
    """`kalman.safetensors` of folder `mambatrack`: another walk of other length, measured with other gaps."""
    chance = np.random.default_rng(4)
    steps, missed = 11, (3, 4, 8)
    walk = chance.normal(0, 1, (steps + 1, 4)).cumsum(0) * [5, 3, 0.005, 1.5]
    measured = np.array([420.0, 310, 0.5, 120]) + walk
    kept: dict[str, list[Array]] = {name: [] for name in ("pred_mean", "pred_cov", "post_mean", "post_cov")}
    state = first_estimate(measured[0])
    for step in range(steps):
        for stage in ("pred", "post"):
            if stage == "pred":
                state = predicted(*state)
            elif step not in missed:
                state = updated(*state, measured[step + 1])
            kept[f"{stage}_mean"].append(state[0])
            kept[f"{stage}_cov"].append(state[1])
    tensors = {name: np.stack(rows) for name, rows in kept.items()}
    (root / "mambatrack").mkdir(parents=True, exist_ok=True)
    extra = {"measurements_xyah": measured, "missed_steps": np.array(missed)}
    save_file({**tensors, **extra}, root / "mambatrack" / "kalman.safetensors")

"""Scores of label maps against plain definitions, element by element."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk_medical.metrics import Report, instance_scores, instances_of, scores


def plain_border(mask: Any) -> list[tuple[int, ...]]:
    elements = []
    for place in zip(*np.nonzero(mask), strict=True):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(place)
            other[axis] += step
            if not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]:
                elements.append(tuple(int(x) for x in place))
                break
    return elements


def plain_distances(of: Any, to: Any, spacing: tuple[float, ...]) -> list[float]:
    def distance(a: Any, b: Any) -> float:
        return math.sqrt(sum((step * (x - y)) ** 2 for step, x, y in zip(spacing, a, b, strict=True)))

    return [min((distance(a, b) for b in to), default=math.inf) for a in of]


@pytest.mark.parametrize(("shape", "spacing"), [((9, 12), (1.0, 0.7)), ((6, 7, 8), (2.5, 0.8, 0.9))])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_the_definitions(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, found = (generator.integers(0, 4, shape) * (generator.random(shape) < 0.4) for _ in range(2))
    labels = {"one": 1, "two": 2, "both": (2, 3)}
    tolerances = {"one": 1.0, "two": 0.5}
    got = scores(truth, found, labels, spacing, tolerances=tolerances)
    for name, values in labels.items():
        a, b = np.isin(truth, values), np.isin(found, values)
        forth = plain_distances(plain_border(a), plain_border(b), spacing)
        back = plain_distances(plain_border(b), plain_border(a), spacing)
        limit = tolerances.get(name, 2.0) + 1e-9
        near = sum(distance <= limit for distance in (*forth, *back))
        assert got[name]["dice"] == 2 * (a & b).sum() / (a.sum() + b.sum())
        assert got[name]["iou"] == (a & b).sum() / (a | b).sum()
        assert got[name]["nsd"] == pytest.approx(near / len(forth + back))
        assert got[name]["hd95"] == pytest.approx(np.percentile(forth + back, 95))


def test_equal_maps_are_perfect_and_a_shift_has_its_distance() -> None:
    truth = np.zeros((10, 20, 20), int)
    truth[3:6, 5:12, 5:12] = 1
    same = scores(truth, truth, {"organ": 1}, (3.0, 1.0, 1.0))["organ"]
    assert (same["dice"], same["iou"], same["nsd"], same["hd95"]) == (1, 1, 1, 0)
    moved = scores(truth, np.roll(truth, 1, 0), {"organ": 1}, (3.0, 1.0, 1.0), tolerances={"organ": 3.0})["organ"]
    assert moved["hd95"] == 3.0
    assert moved["nsd"] == 1.0, "a distance that equals the tolerance is within it"


def test_absent_labels() -> None:
    empty, full = np.zeros((4, 4), int), np.ones((4, 4), int)
    both = scores(empty, empty, {"organ": 1}, (1, 1))["organ"]
    assert (both["dice"], both["nsd"], both["hd95"]) == (1, 1, 0)
    assert scores(empty, empty, {"organ": 1}, (1, 1), both_absent=math.nan)["organ"]["dice"] is not None
    missed = scores(full, empty, {"organ": 1}, (1, 1))["organ"]
    assert (missed["dice"], missed["iou"], missed["nsd"]) == (0, 0, 0)
    assert math.isnan(missed["hd95"])


def test_ignored_elements_and_slices_beyond_the_annotation_are_not_scored() -> None:
    truth, found = np.zeros((6, 5, 5), int), np.zeros((6, 5, 5), int)
    truth[2:4, 1:4, 1:4] = 1
    found[:, 1:4, 1:4] = 1
    assert scores(truth, found, {"aorta": 1}, (1, 1, 1))["aorta"]["dice"] == pytest.approx(0.5)
    assert scores(truth, found, {"aorta": 1}, (1, 1, 1), crop_z=["aorta"])["aorta"]["dice"] == 1
    truth[:2], truth[4:] = 9, 9
    assert scores(truth, found, {"aorta": 1}, (1, 1, 1), ignore=9)["aorta"]["dice"] == 1


def test_wrong_input_is_named() -> None:
    a = np.zeros((4, 4), int)
    with pytest.raises(ShapeError, match="differ in shape"):
        scores(a, a[:2], {"x": 1}, (1, 1))
    for spacing in ((1.0,), (1.0, 0.0), (1.0, math.nan)):
        with pytest.raises(InvalidArgumentError, match="bad spacing"):
            scores(a, a, {"x": 1}, spacing)
    with pytest.raises(InvalidArgumentError, match="no label is called y"):
        scores(a, a, {"x": 1}, (1, 1), tolerances={"y": 1.0})


def test_instances_are_matched_whatever_their_numbers() -> None:
    truth = np.zeros((20, 20), int)
    truth[1:5, 1:5], truth[8:12, 8:12], truth[15:19, 1:5] = 7, 3, 5
    found = np.zeros_like(truth)
    found[1:5, 1:5], found[8:12, 9:13], found[1:5, 15:19] = 1, 2, 9
    got = instance_scores(truth, found)  # the second overlaps by 12 of 20
    assert (got["tp"], got["fp"], got["fn"]) == (2, 1, 1)
    assert got["f1"] == pytest.approx(2 / 3)
    strict = instance_scores(truth, found, 0.7)
    assert (strict["tp"], strict["fp"], strict["fn"]) == (1, 2, 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_matching_has_the_most_pairs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, found = (generator.integers(0, 5, (3, 4)).repeat(2, 1) for _ in range(2))
    threshold = 0.2
    rows, columns = ([value for value in np.unique(given) if value] for given in (truth, found))

    def iou(a: int, b: int) -> float:
        return float(((truth == a) & (found == b)).sum() / ((truth == a) | (found == b)).sum())

    short, long = (rows, columns) if len(rows) <= len(columns) else (columns, rows)
    best = max(
        sum((iou(a, b) if short is rows else iou(b, a)) >= threshold for a, b in zip(short, order, strict=True))
        for order in itertools.permutations(long, len(short))
    )
    assert instance_scores(truth, found, threshold)["tp"] == best


def test_no_instances() -> None:
    none, one = np.zeros((4, 4), int), np.ones((4, 4), int)
    assert instance_scores(none, none)["f1"] == 1
    assert instance_scores(none, one) == {"f1": 0, "precision": 0, "recall": 0, "tp": 0, "fp": 1, "fn": 0}
    assert instance_scores(one, none) == {"f1": 0, "precision": 0, "recall": 0, "tp": 0, "fp": 0, "fn": 1}
    assert instances_of(np.eye(3, dtype=bool)).max() == 3, "corners are no neighbours"


def test_a_report_is_valid_json_and_means_leave_out_what_is_not_defined() -> None:
    report = Report()
    full, empty = np.ones((4, 4), int), np.zeros((4, 4), int)
    report.add("a", scores(full, full, {"organ": 1, "other": 2}, (1, 1)))
    report.add("b", scores(full, empty, {"organ": 1, "other": 2}, (1, 1)))
    assert report.by_label()["organ"]["dice"] == 0.5
    assert report.by_label()["organ"]["hd95"] == 0, "of the one case that has it"
    found = json.loads(report.to_json())
    assert found["cases"]["b"]["organ"]["hd95"] is None
    lines = report.table().splitlines()
    assert [line.split()[0] for line in lines] == ["label", "organ", "other", "mean"]
    assert "0.5000" in lines[1]

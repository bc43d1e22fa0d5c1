"""Average precision equal to pycocotools', Pascal VOC's against its protocol, confusions by hand."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from mambasdk_vision.detection.boxes import centres, corners, overlaps
from mambasdk_vision.detection.metrics import (
    ImageBoxes,
    coco_scores,
    detection_confusion,
    voc_average_precision,
)

CLASSES = 3
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def random_images(seed: int) -> list[ImageBoxes]:
    """One to four images; whole pixels and scores of one digit, so that there are ties of both; some crowds."""
    chance = np.random.default_rng(seed)
    images = []
    for _ in range(int(chance.integers(1, 5))):
        count = int(chance.integers(0, 7))
        corner, side = chance.integers(0, 150, (count, 2)), chance.integers(4, 140, (count, 2))
        truth = np.concatenate([corner, corner + side], 1).astype(float).reshape(-1, 4)
        # Found boxes are moved ones, the same box twice, and others.
        picked = chance.integers(0, count, int(chance.integers(0, 9))) if count else np.zeros(0, int)
        moved = np.maximum(truth[picked] + chance.integers(-6, 7, (len(picked), 4)), 0)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        more = chance.integers(0, 120, (int(chance.integers(0, 120 if seed % 20 == 0 else 4)), 2))
        others = np.concatenate([more, more + chance.integers(5, 60, more.shape)], 1).astype(float).reshape(-1, 4)
        found = np.concatenate([moved, moved[:1], others])
        images.append(
            ImageBoxes(
                truth,
                chance.integers(0, CLASSES, count),
                found,
                chance.integers(0, CLASSES, len(found)),
                chance.integers(0, 10, len(found)) / 10,
                crowd=chance.random(count) < 0.2,
                areas=np.prod(side, 1) * chance.choice([1.0, 0.7], count) if seed % 2 else np.zeros(0),
            )
        )
    return images


def pycocotools_numbers(images: list[ImageBoxes]) -> list[float]:
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    def xywh(box: Any) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    annotations: list[dict[str, Any]] = []
    results = []
    for number, image in enumerate(images):
        for index, box in enumerate(image.truth):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": int(image.classes[index]),
                 "bbox": xywh(box), "area": float(image.areas[index]), "iscrowd": int(image.crowd[index])}
            )  # fmt: skip
        for index, box in enumerate(image.found):
            results.append(
                {"image_id": number, "category_id": int(image.found_classes[index]), "bbox": xywh(box),
                 "score": float(image.scores[index])}
            )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_module.COCO()
        truth.dataset = {
            "images": [{"id": number, "width": 400, "height": 400} for number in range(len(images))],
            "annotations": annotations,
            "categories": [{"id": index, "name": str(index)} for index in range(CLASSES)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_coco_scores_are_those_of_pycocotools(first: int) -> None:
    compared = 0
    for seed in range(first, first + 20):
        images = random_images(seed)
        if not any(len(image.found) for image in images):  # which loadRes refuses
            images[0].found, images[0].scores = np.array([[0.0, 0, 9, 9]]), np.array([0.5])
            images[0].found_classes = np.array([0])
        summary = coco_scores(images, CLASSES).summary()
        expected = pycocotools_numbers(images)
        ours = [-1.0 if np.isnan(summary[name]) else summary[name] for name in NAMES]
        np.testing.assert_allclose(ours, expected, atol=1e-12, err_msg=f"seed {seed}")
        compared += sum(value > 0 for value in expected)
    assert compared > 40


def test_coco_scores_of_nothing_and_of_everything() -> None:
    empty = ImageBoxes(np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    assert all(np.isnan(value) for value in coco_scores([empty], 2).summary().values())
    boxes, classes = np.array([[0.0, 0, 50, 50], [60, 60, 200, 200]]), np.array([0, 1])
    perfect = coco_scores([ImageBoxes(boxes, classes, boxes, classes, np.array([0.9, 0.8])), empty], 1000)
    summary = perfect.summary()
    np.testing.assert_allclose([summary["AP"], summary["AP75"], summary["AR100"]], 1)
    assert np.isnan(summary["APs"])
    assert np.isnan(perfect.of_class(999)["AP"])
    missed = coco_scores([ImageBoxes(boxes, classes, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))], 2)
    assert missed.summary()["AP"] == 0


def voc_by_the_protocol(images: list[ImageBoxes], label: int, points: bool) -> float:
    """The development kit's evaluation, box by box, over all images in the order of the scores."""
    every = [
        (score, number, box)
        for number, image in enumerate(images)
        for score, box, name in zip(image.scores, image.found, image.found_classes, strict=True)
        if name == label
    ]
    every.sort(key=lambda row: -row[0])
    used: set[tuple[int, int]] = set()
    objects = sum(int(((i.classes == label) & ~i.crowd & ~i.difficult).sum()) for i in images)
    if not objects:
        return float("nan")
    hits = misses = 0
    curve = []
    for _, number, box in every:
        image = images[number]
        best, place = 0.0, -1
        for index, (truth, name) in enumerate(zip(image.truth, image.classes, strict=True)):
            overlap = overlaps(box, truth)[0, 0]
            if name == label and overlap > best:
                best, place = overlap, index
        if best >= 0.5 and (image.crowd | image.difficult)[place]:
            continue
        right = best >= 0.5 and (number, place) not in used
        used.add((number, place)) if right else None
        hits, misses = hits + right, misses + (not right)
        curve.append((hits / objects, hits / (hits + misses)))
    if points:
        return sum(max((p for r, p in curve if r >= t / 10), default=0.0) for t in range(11)) / 11
    area, last = 0.0, 0.0
    for index, (recall, _) in enumerate(curve):
        area += (recall - last) * max(p for _, p in curve[index:])
        last = recall
    return area


@pytest.mark.parametrize("seed", range(40))
def test_voc_scores_are_those_of_the_protocol(seed: int) -> None:
    images = random_images(1000 + seed)
    chance = np.random.default_rng(seed)
    for image in images:
        image.difficult = chance.random(len(image.truth)) < 0.3
        image.scores = image.scores + chance.random(len(image.scores)) * 1e-6  # ties have no order in the protocol
    for label in range(CLASSES):
        for method in ("all", "11"):
            ours = voc_average_precision(images, label, method=method)  # type: ignore[arg-type]
            np.testing.assert_allclose(ours, voc_by_the_protocol(images, label, method == "11"), atol=1e-9)


def test_confusions_count_each_box_once() -> None:
    truth = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 90, 30], [0, 50, 10, 60]])
    found = np.array([[0.0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10], [70, 80, 75, 85], [61, 1, 75, 20]])
    image = ImageBoxes(
        truth, np.array([0, 1, 1, 0, 1]), found, np.array([0, 0, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.9]),
        crowd=np.array([False, False, False, True, False]), difficult=np.array([False] * 4 + [True]),
    )  # fmt: skip
    # Right; the second one of an object; another class; found on nothing; a missed one. The crowd and what is on it,
    # and the difficult object, are left out.
    assert detection_confusion([image], 2).tolist() == [[1, 0, 0], [1, 0, 1], [1, 1, 0]]
    assert detection_confusion([image], 2, score=0.95).tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 0]]


def test_formats_and_overlaps() -> None:
    boxes = np.random.default_rng(0).uniform(0, 50, (30, 4))
    np.testing.assert_allclose(corners(centres(boxes)), boxes, atol=1e-12)
    one = np.array([[0.0, 0, 10, 10]])
    np.testing.assert_allclose(overlaps(one, [[5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 0, 0]]), [[1 / 3, 0, 0]])
    np.testing.assert_allclose(overlaps(one, [[5, 0, 100, 100]], [True]), [[0.5]])

"""Classification and detection results against their formulas in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mambasdk_vision import ImageClassification, ImageProcessor, ObjectDetection

Array = npt.NDArray[Any]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("batched", [True, False])
def test_labels_are_the_best_scores(activation: str, batched: bool) -> None:
    logits = np.random.default_rng(0).normal(0, 4, 50).astype(np.float32)
    logits[7] = logits[3]
    x = logits.astype(np.float64)
    softmax = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
    scores = {"softmax": softmax, "sigmoid": 1 / (1 + np.exp(-x)), "none": x}[activation]
    names = [f"class {i}" for i in range(50)]
    head = ImageClassification(labels=names, top_k=50, activation=activation)
    found = head(logits[None] if batched else logits)
    order = np.lexsort((np.arange(50), -logits))  # equal scores by index
    assert [entry["index"] for entry in found] == order.tolist()
    assert [entry["label"] for entry in found] == [names[i] for i in order]
    np.testing.assert_allclose([entry["score"] for entry in found], scores[order], rtol=1e-6)


def test_a_run_may_ask_for_another_top_k() -> None:
    head = ImageClassification(top_k=3)
    logits = np.arange(10, dtype=np.float32)
    assert [entry["index"] for entry in head(logits)] == [9, 8, 7]
    asked = head.run(logits=logits, options='{"top_k": 1}')["json"]["labels"]
    assert asked[0]["label"] == "9"
    assert len(asked) == 1
    with pytest.raises(ValueError, match='no option "k"; it has top_k'):
        head.run(logits=logits, options='{"k": 1}')


def test_wrong_logits_are_named() -> None:
    with pytest.raises(ValueError, match="3 labels for 4 classes"):
        ImageClassification(labels=["a", "b", "c"])(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"expected f32 \(C\) or \(1, C\)"):
        ImageClassification()(np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="input logits is missing; got scores"):
        ImageClassification().run(scores=np.zeros(4, np.float32))


def overlap(a: Array, b: Array) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return float(common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common))


def greedy(boxes: Array, scores: Array, classes: Array, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(classes[k] != classes[i] or overlap(boxes[k], boxes[i]) <= threshold for k in kept):
            kept.append(int(i))
    return kept


def random_boxes(count: int, seed: int) -> Array:
    chance = np.random.default_rng(seed)
    corner = chance.uniform(0, 180, (count, 2))
    return np.concatenate([corner, corner + chance.uniform(5, 44, (count, 2))], 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_suppression_within_classes(seed: int) -> None:
    boxes = random_boxes(120, seed)
    chance = np.random.default_rng(seed + 100)
    scores = chance.random(120).astype(np.float32)
    classes = chance.integers(0, 3, 120)
    strong = np.flatnonzero(scores >= np.float32(0.3))
    kept = strong[greedy(boxes[strong].astype(np.float64), scores[strong], classes[strong], 0.2)]
    found = ObjectDetection(score_threshold=0.3, iou_threshold=0.2)(boxes, scores, classes)
    assert [entry["index"] for entry in found] == classes[kept].tolist()
    np.testing.assert_array_equal(np.array([entry["box"] for entry in found], np.float32), boxes[kept])
    assert len(kept) < len(strong)


@pytest.mark.parametrize("box_format", ["xyxy", "xywh", "cxcywh"])
@pytest.mark.parametrize("normalized", [True, False])
def test_boxes_come_back_to_the_original_image(box_format: str, normalized: bool) -> None:
    """A box of the original, moved into the model's image by the processor's own geometry, is found again."""
    image = ImageProcessor(size=[64, 96], crop_pct=0.9)(np.zeros((150, 300, 3), np.uint8))
    scale_x, scale_y, offset_x, offset_y = image["image_transform"]
    original = np.array([100.0, 40.0, 180.0, 110.0])
    x1, x2 = (original[[0, 2]] - offset_x) / scale_x
    y1, y2 = (original[[1, 3]] - offset_y) / scale_y
    box = {
        "xyxy": [x1, y1, x2, y2],
        "xywh": [x1, y1, x2 - x1, y2 - y1],
        "cxcywh": [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1],
    }[box_format]
    scaled = np.array(box) / ([96, 64, 96, 64] if normalized else 1)
    head = ObjectDetection(box_format=box_format, normalized=normalized, input_size=[64, 96], labels=["cat", "dog"])
    scores = np.array([[[0.1, 0.9]]], np.float32)
    found = head(scaled.astype(np.float32)[None, None], scores, image=image)
    assert [(entry["label"], entry["index"]) for entry in found] == [("dog", 1)]
    np.testing.assert_allclose(found[0]["box"], original, atol=1e-3)
    outside = head(np.array([[-500, -500, -400, -400]], np.float32), scores[0], image=image)
    assert outside == []


def test_no_boxes_and_boxes_that_are_no_numbers() -> None:
    head = ObjectDetection()
    assert head(np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32)) == []
    nan = np.full((2, 4), np.nan, np.float32)
    assert head(nan, np.ones((2, 1), np.float32)) == []
    with pytest.raises(ValueError, match=r"boxes: expected f32 \(N, 4\) or \(1, N, 4\), got \(3, 5\)"):
        head(np.zeros((3, 5), np.float32), np.zeros((3, 1), np.float32))
    with pytest.raises(ValueError, match="a row per box"):
        head(np.zeros((3, 4), np.float32), np.zeros((2, 1), np.float32))


def test_one_class_a_box_or_several() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    scores = np.array([[0.6, 0.9, 0.3], [0.5, 0.5, 0.1]], np.float32)
    several = ObjectDetection(score_threshold=0.25)(boxes, scores)
    assert [(entry["index"], entry["box"][0]) for entry in several] == [(1, 0), (0, 0), (0, 50), (1, 50), (2, 0)]
    best = ObjectDetection(score_threshold=0.25, multi_label=False)
    assert [(entry["index"], entry["box"][0]) for entry in best(boxes, scores)] == [(1, 0), (0, 50)]
    # A box whose best class is not asked for is not reported as another one.
    asked = best.run(boxes=boxes, scores=scores, options='{"only_classes": [2, 0]}')["json"]["detections"]
    assert [(entry["index"], entry["box"][0]) for entry in asked] == [(0, 50)]
    asked = best.run(boxes=boxes, scores=scores, options='{"only_classes": [0], "multi_label": true}')["json"]
    assert [entry["box"][0] for entry in asked["detections"]] == [0, 50]


def test_suppression_between_classes() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [30, 30, 40, 40]], np.float32)
    scores, classes = np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 1])
    assert len(ObjectDetection()(boxes, scores, classes)) == 3
    assert [entry["index"] for entry in ObjectDetection(agnostic=True)(boxes, scores, classes)] == [0, 1]
    asked = ObjectDetection().run(boxes=boxes, scores=scores, classes=classes, options='{"agnostic": true}')
    assert asked["scores"].tolist() == pytest.approx([0.9, 0.7])


def test_only_the_best_candidates_are_compared() -> None:
    """Of equal scores the first ones are taken."""
    chance = np.random.default_rng(0)
    boxes = random_boxes(500, 1)
    scores = (chance.integers(0, 20, 500) / 20).astype(np.float32)
    best = np.sort(np.argsort(-scores, kind="stable")[:60])
    kept = best[greedy(boxes[best].astype(np.float64), scores[best], np.zeros(60, int), 0.3)]
    head = ObjectDetection(score_threshold=0.0, iou_threshold=0.3, max_candidates=60)
    found = head(boxes, scores, np.zeros(500, np.int64))
    np.testing.assert_array_equal(np.array([entry["box"] for entry in found], np.float32), boxes[kept])


BAD_DETECTION_OPTIONS = [
    ('{"only_classes": [-1]}', "only_classes: expected an integer from 0 to"),
    ('{"only_classes": 3}', "only_classes: expected a list of integers"),
    ('{"only_classes": [1.5]}', "only_classes: expected an integer"),
    ('{"agnostic": 1}', "agnostic: expected true or false"),
    ('{"max_candidates": 0}', "max_candidates: expected an integer from 1"),
    ('{"classes": [0]}', 'no option "classes"; it has score_threshold'),
]


@pytest.mark.parametrize(("options", "message"), BAD_DETECTION_OPTIONS)
def test_bad_options_of_a_run_are_named(options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectDetection().run(boxes=np.zeros((1, 4), np.float32), scores=np.ones((1, 1), np.float32), options=options)


@pytest.mark.parametrize("seed", range(12))
def test_suppression_of_boxes_of_any_size(seed: int) -> None:
    """Thin, tiny and huge boxes, and every threshold, beside the plain reference."""
    chance = np.random.default_rng(seed)
    reach = 10.0 ** chance.integers(-3, 7)
    sides = 10.0 ** chance.uniform(-14 if seed % 3 == 0 else -2, 9 if seed % 3 == 1 else 2, (400, 2))
    corner = chance.uniform(0, reach, (400, 2))
    boxes = np.concatenate([corner, corner + sides], 1).astype(np.float32)
    boxes[200:300] = boxes[:100]  # the same box twice
    boxes[300:350, 2:] = boxes[300:350, :2] + np.float32(0.01) * chance.integers(1, 40, (50, 2)).astype(np.float32)
    scores = (chance.integers(1, 50, 400) / 50).astype(np.float32)
    classes = chance.integers(0, 2, 400)
    usable = ((boxes[:, 2:] > boxes[:, :2]).all(1)).nonzero()[0]
    for threshold in (0.0, 0.1, 0.5, 0.9, 1.0):
        kept = usable[greedy(boxes[usable].astype(np.float64), scores[usable], classes[usable], threshold)]
        head = ObjectDetection(score_threshold=0.0, iou_threshold=threshold, max_detections=1000)
        found = head(boxes, scores, classes)
        np.testing.assert_array_equal(np.array([entry["box"] for entry in found], np.float32), boxes[kept])

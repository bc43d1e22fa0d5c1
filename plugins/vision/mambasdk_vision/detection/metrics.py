"""Average precision of boxes as COCO and as Pascal VOC define it. NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mambasdk_vision.detection.boxes import Array, areas, overlaps

Flags = npt.NDArray[np.bool_]

# COCO's detection evaluation (https://cocodataset.org/#detection-eval).
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MOST = (1, 10, 100)  # boxes of an image and class that count, by score
_EPSILON = float(np.spacing(1))


@dataclass
class ImageBoxes:
    """The boxes of one image, annotated and found; corners x1, y1, x2, y2 in pixels.

    truth: (m, 4) with classes int64 (m); areas: (m) square pixels of the objects. crowd: boxes around many objects,
    which any number of found ones may match. difficult: neither to be found nor wrong when found (Pascal VOC).
    found: (n, 4) with found_classes int64 (n) and scores (n).
    """

    truth: Array
    classes: npt.NDArray[np.int64]
    found: Array
    found_classes: npt.NDArray[np.int64]
    scores: Array
    crowd: Flags = field(default_factory=lambda: np.zeros(0, bool))
    difficult: Flags = field(default_factory=lambda: np.zeros(0, bool))
    areas: Array = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        count = len(self.truth)
        if len(self.crowd) != count:
            self.crowd = np.zeros(count, bool)
        if len(self.difficult) != count:
            self.difficult = np.zeros(count, bool)
        if len(self.areas) != count:
            self.areas = areas(self.truth)
        unknown = np.isnan(self.areas)
        self.areas = np.where(unknown, areas(self.truth), self.areas)


@dataclass(frozen=True)
class CocoScores:
    """precision: (10 thresholds, 101 recalls, C classes, 4 sizes), of 100 boxes an image; recall: (10, C, 4, 3 limits).

    Both are -1 where a class has no object of a size.
    """

    precision: Array
    recall: Array

    def summary(self) -> dict[str, float]:
        """COCO's twelve numbers by name; NaN where none is defined."""
        p, r = self.precision, self.recall
        return {
            "AP": _mean(p[:, :, :, 0]),
            "AP50": _mean(p[0, :, :, 0]),
            "AP75": _mean(p[5, :, :, 0]),
            "APs": _mean(p[:, :, :, 1]),
            "APm": _mean(p[:, :, :, 2]),
            "APl": _mean(p[:, :, :, 3]),
            **{f"AR{most}": _mean(r[:, :, 0, place]) for place, most in enumerate(MOST)},
            "ARs": _mean(r[:, :, 1, 2]),
            "ARm": _mean(r[:, :, 2, 2]),
            "ARl": _mean(r[:, :, 3, 2]),
        }

    def of_class(self, index: int) -> dict[str, float]:
        """AP, AP50 and AP75 of a class."""
        own = self.precision[:, :, index, 0]
        return {"AP": _mean(own), "AP50": _mean(own[0]), "AP75": _mean(own[5])}


def coco_scores(images: Sequence[ImageBoxes], classes: int) -> CocoScores:
    """Scores of all images, as COCO's own evaluation counts them."""
    precision = -np.ones((len(THRESHOLDS), len(RECALLS), classes, len(SIZES)))
    recall = -np.ones((len(THRESHOLDS), classes, len(SIZES), len(MOST)))
    for label in range(classes):
        parts = [_of_class(image, label) for image in images]
        parts = [part for part in parts if len(part.scores) or len(part.ignored)]
        for size, (least, most) in enumerate(SIZES.values()):
            matched = [_match(part, least, most) for part in parts]
            objects = sum(int((~one.ignored_truth).sum()) for one in matched)
            if not objects:
                continue
            for place, limit in enumerate(MOST):
                curves = _curves(matched, objects, limit)
                recall[:, label, size, place] = [curve[1] for curve in curves]
                if limit == MOST[-1]:
                    precision[:, :, label, size] = [curve[0] for curve in curves]
    return CocoScores(precision, recall)


def _mean(values: Array) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True)
class _Part:
    """One class of one image; found boxes by score, best first."""

    scores: Array
    found_areas: Array
    similarity: Array  # (n, m)
    truth_areas: Array
    ignored: Flags  # whatever their size
    crowd: Flags


def _of_class(image: ImageBoxes, label: int) -> _Part:
    own = image.classes == label
    best = np.flatnonzero(image.found_classes == label)
    best = best[np.argsort(-image.scores[best], kind="mergesort")][: MOST[-1]]
    crowd = image.crowd[own]
    return _Part(
        image.scores[best],
        areas(image.found[best]),
        overlaps(image.found[best], image.truth[own], crowd),
        image.areas[own],
        crowd | image.difficult[own],
        crowd,
    )


@dataclass(frozen=True)
class _Matched:
    scores: Array  # (n)
    right: Flags  # (10, n), whether a found box has an object
    ignored: Flags  # (10, n)
    ignored_truth: Flags  # (m)


def _match(part: _Part, least: float, most: float) -> _Matched:
    """Each found box, best first, to the free object that it overlaps most; objects that count come first."""
    ignored_truth = part.ignored | (part.truth_areas < least) | (part.truth_areas > most)
    order = np.argsort(ignored_truth, kind="mergesort")
    ignored, crowd, similarity = ignored_truth[order], part.crowd[order], part.similarity[:, order]
    counting = int((~ignored).sum())
    found, shape = len(part.scores), (len(THRESHOLDS), len(part.scores))
    right, skipped = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, threshold in enumerate(np.minimum(THRESHOLDS, 1 - 1e-10)):
        free = np.ones(len(order), bool)
        for one in range(found):
            chosen = _best(similarity[one, :counting], free[:counting], threshold)
            if chosen < 0:
                chosen = _best(similarity[one, counting:], (free | crowd)[counting:], threshold)
                chosen += counting if chosen >= 0 else 0
            if chosen < 0:
                continue
            free[chosen] = False
            right[row, one], skipped[row, one] = True, ignored[chosen]
    outside = (part.found_areas < least) | (part.found_areas > most)
    return _Matched(part.scores, right, skipped | (~right & outside), ignored_truth)


def _best(similarity: Array, free: Flags, threshold: float) -> int:
    """The last of the free ones that overlap most, -1 where none reaches the threshold."""
    able = np.where(free, similarity, -1.0)
    if not able.size or able.max() < threshold:
        return -1
    return int(len(able) - 1 - np.argmax(able[::-1]))


def _curves(matched: Sequence[_Matched], objects: int, limit: int) -> list[tuple[Array, float]]:
    """Of each threshold the precision at RECALLS and the largest recall, of the best `limit` boxes of each image."""
    scores = np.concatenate([one.scores[:limit] for one in matched])
    order = np.argsort(-scores, kind="mergesort")
    right = np.concatenate([one.right[:, :limit] for one in matched], 1)[:, order]
    counts = ~np.concatenate([one.ignored[:, :limit] for one in matched], 1)[:, order]
    return [_curve(r & c, ~r & c, objects) for r, c in zip(right, counts, strict=True)]


def _curve(right: Flags, wrong: Flags, objects: int) -> tuple[Array, float]:
    hits, misses = np.cumsum(right, dtype=np.float64), np.cumsum(wrong, dtype=np.float64)
    recall = hits / objects
    precision = hits / (hits + misses + _EPSILON)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    sampled = np.where(places < len(falling), falling[np.minimum(places, len(falling) - 1)] if len(falling) else 0, 0.0)
    return sampled, float(recall[-1]) if len(recall) else 0.0


def voc_average_precision(
    images: Sequence[ImageBoxes], label: int, threshold: float = 0.5, method: Literal["all", "11"] = "all"
) -> float:
    """AP of a class as Pascal VOC defines it; NaN where it has no object that counts.

    method: "all", the area under the curve (2010 and later), or "11", the mean at recalls 0, 0.1, …, 1 (2007). A found
    box belongs to the object that it overlaps most, which the first one takes; the least IoU is the threshold.
    Areas are of corners as they are, where VOC's own program counts pixels (a side more by one).
    """
    rows: list[tuple[float, bool, bool]] = []  # score, right, counts
    objects = 0
    for image in images:
        own = image.classes == label
        skipped = (image.difficult | image.crowd)[own]
        objects += int((~skipped).sum())
        best = np.flatnonzero(image.found_classes == label)
        best = best[np.argsort(-image.scores[best], kind="mergesort")]
        similarity = overlaps(image.found[best], image.truth[own])
        taken = np.zeros(len(skipped), bool)
        for one, score in enumerate(image.scores[best]):
            place = int(similarity[one].argmax()) if len(skipped) else -1
            if place < 0 or similarity[one, place] < threshold:
                rows.append((float(score), False, True))
            elif skipped[place]:
                rows.append((float(score), False, False))
            else:
                rows.append((float(score), not taken[place], True))
                taken[place] = True
    if not objects:
        return float("nan")
    if not rows:
        return 0.0
    scores, right, counts = (np.array(column) for column in zip(*rows, strict=True))
    order = np.argsort(-scores, kind="mergesort")
    right, counts = right[order].astype(bool), counts[order].astype(bool)
    hits, misses = np.cumsum(right & counts), np.cumsum(~right & counts)
    recall = hits / objects
    precision = hits / np.maximum(hits + misses, _EPSILON)
    return _area(recall, precision) if method == "all" else _eleven(recall, precision)


def _area(recall: Any, precision: Any) -> float:
    edges = np.concatenate([[0.0], recall, [1.0]])
    heights = np.concatenate([[0.0], precision, [0.0]])
    heights = np.maximum.accumulate(heights[::-1])[::-1]
    return float(((edges[1:] - edges[:-1]) * heights[1:]).sum())


def _eleven(recall: Any, precision: Any) -> float:
    points = np.arange(11) / 10
    return float(np.mean([precision[recall >= point].max(initial=0.0) for point in points]))


def detection_confusion(
    images: Sequence[ImageBoxes], classes: int, *, score: float = 0.25, threshold: float = 0.45
) -> npt.NDArray[np.int64]:
    """int64 (C + 1, C + 1): how often an object of class i (row) was found as class j; the last row and column are the
    background: found where nothing is, and not found.

    Pairs of any class with an IoU of `threshold` and more, best first, each box in one pair. Crowds and difficult
    objects count as nothing, and nor does what is found on them.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for image in images:
        strong = image.scores >= score
        found, names = image.found[strong], image.found_classes[strong]
        skipped = image.crowd | image.difficult
        similarity = overlaps(found, image.truth)
        free_found, free_truth = np.ones(len(found), bool), np.ones(len(image.truth), bool)
        for one, other in zip(*np.unravel_index(np.argsort(-similarity, axis=None), similarity.shape), strict=True):
            if similarity[one, other] < threshold:
                break
            if free_found[one] and free_truth[other]:
                free_found[one] = free_truth[other] = False
                if not skipped[other]:
                    matrix[image.classes[other], names[one]] += 1
        on_crowd = overlaps(found, image.truth[image.crowd], np.ones(int(image.crowd.sum()), bool))
        unmatched = free_found & ~(on_crowd >= threshold).any(1)
        np.add.at(matrix[classes], names[unmatched], 1)
        np.add.at(matrix[:, classes], image.classes[free_truth & ~skipped], 1)
    return matrix

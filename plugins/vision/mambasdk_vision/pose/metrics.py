"""Scores of poses: object keypoint similarity, average precision as COCO defines it, PCK. NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# COCO's keypoint evaluation (https://cocodataset.org/#keypoints-eval).
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_PEOPLE = 20  # detections of an image that count, by score
_EPSILON = float(np.spacing(1))


@dataclass
class ImagePoses:
    """The people of one image, annotated and found.

    truth: (m, K, 3), x, y and visibility (0: not annotated). areas: (m) square pixels. boxes: (m, 4), x1, y1, x2, y2.
    ignored: bool (m), crowds and people without a keypoint, which are neither to be found nor wrong when found.
    crowd: bool (m), those of the ignored that may be found several times.
    found: (n, K, 3), x, y and score. scores: (n).
    """

    truth: Array
    areas: Array
    boxes: Array
    ignored: npt.NDArray[np.bool_]
    crowd: npt.NDArray[np.bool_]
    found: Array
    scores: Array = field(default_factory=lambda: np.zeros(0))


def object_keypoint_similarity(found: Array, poses: ImagePoses, sigmas: Sequence[float]) -> Array:
    """(n, m): the mean of exp(-d² / (2 area (2 sigma)²)) over the annotated keypoints of person m.

    A person without annotated keypoints is compared by how far the found ones are outside twice the box.
    """
    variances = (2 * np.asarray(sigmas)) ** 2  # (K)
    similarity = np.zeros((len(found), len(poses.truth)))
    for column, (truth, area, box) in enumerate(zip(poses.truth, poses.areas, poses.boxes, strict=True)):
        seen = truth[:, 2] > 0
        if seen.any():
            offsets = found[:, :, :2] - truth[:, :2]  # (n, K, 2)
        else:
            size = box[2:] - box[:2]
            offsets = np.maximum(box[:2] - size - found[:, :, :2], 0)
            offsets = offsets + np.maximum(found[:, :, :2] - box[2:] - size, 0)
            seen = np.ones(len(truth), bool)
        errors = (offsets**2).sum(2) / variances / (area + _EPSILON) / 2
        similarity[:, column] = np.exp(-errors[:, seen]).mean(1)
    return similarity


def average_precision(images: Sequence[ImagePoses], sigmas: Sequence[float]) -> dict[str, float]:
    """COCO's AP, AP50, AP75 and AR over OKS 0.5 to 0.95; NaN where no person is annotated."""
    matches = [_match(image, sigmas) for image in images]
    people = sum(int((~image.ignored).sum()) for image in images)
    if not people:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"), float("nan"))
    scores = np.concatenate([match[0] for match in matches])
    order = np.argsort(-scores, kind="mergesort")
    right = np.concatenate([match[1] for match in matches], 1)[:, order]  # (10, n)
    counted = ~np.concatenate([match[2] for match in matches], 1)[:, order]
    precision, recall = zip(*(_curve(r & c, ~r & c, people) for r, c in zip(right, counted, strict=True)), strict=True)
    each = np.array([row.mean() for row in precision])
    return {"AP": float(each.mean()), "AP50": float(each[0]), "AP75": float(each[5]), "AR": float(np.mean(recall))}


def _match(image: ImagePoses, sigmas: Sequence[float]) -> tuple[Array, Any, Any]:
    """Scores (n) of an image's best detections; of each threshold whether it is right, and whether it is ignored."""
    best = np.argsort(-image.scores, kind="mergesort")[:MOST_PEOPLE]
    similarity = object_keypoint_similarity(image.found[best], image, sigmas)
    order = np.argsort(image.ignored, kind="mergesort")  # ignored people come last
    taken = np.zeros((len(THRESHOLDS), len(order)), bool)
    right = np.zeros((len(THRESHOLDS), len(best)), bool)
    ignored = np.zeros_like(right)
    for row, threshold in enumerate(THRESHOLDS):
        for column in range(len(best)):
            least, chosen = min(threshold, 1 - 1e-10), -1
            for person in order:
                if taken[row, person] and not image.crowd[person]:
                    continue
                if chosen >= 0 and not image.ignored[chosen] and image.ignored[person]:
                    break
                if similarity[column, person] < least:
                    continue
                least, chosen = similarity[column, person], person
            if chosen >= 0:
                taken[row, chosen] = right[row, column] = True
                ignored[row, column] = image.ignored[chosen]
    return image.scores[best], right, ignored


def _curve(right: Any, wrong: Any, people: int) -> tuple[Array, float]:
    """Precision at the recalls of `RECALLS`, made to fall, and the largest recall."""
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    if not len(hits):
        return np.zeros(len(RECALLS)), 0.0
    recall = hits / people
    precision = hits / np.maximum(hits + misses, _EPSILON)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return np.where(places < len(recall), precision[np.minimum(places, len(recall) - 1)], 0.0), float(recall[-1])


def correct_keypoints(found: Array, truth: Array, boxes: Array, share: float = 0.1) -> tuple[Array, Array]:
    """PCK: (K) how many keypoints lie within `share` of the longer side of their person's box, (K) of how many.

    found: (n, K, 2 or 3), of the same people as truth (n, K, 3) with its visibility. boxes: (n, 4).
    """
    reach = share * (boxes[:, 2:] - boxes[:, :2]).max(1)  # (n)
    distance = np.linalg.norm(found[:, :, :2] - truth[:, :, :2], axis=2)
    seen = truth[:, :, 2] > 0
    return ((distance <= reach[:, None]) & seen).sum(0).astype(np.float64), seen.sum(0).astype(np.float64)

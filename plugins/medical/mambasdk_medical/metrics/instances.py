"""Scores of instances, such as cells: which of them were found, whatever their numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from mambasdk.errors import InvalidArgumentError, ShapeError

Instances = npt.NDArray[np.integer]


def instances_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Connected components of a mask (*S), by neighbours along the axes: 1, 2, …, and 0 outside."""
    found: npt.NDArray[np.int32] = ndimage.label(mask)[0].astype(np.int32)
    return found


def instance_scores(truth: Instances, found: Instances, threshold: float = 0.5) -> dict[str, float]:
    """`f1`, `precision`, `recall`, and the counts `tp`, `fp`, `fn`, of instances that overlap by an IoU of `threshold`.

    truth, found: integers (*S), 0 for the background, one number an instance. Each is matched with at most one: the
    matching has the most pairs at the threshold, among those the greatest sum of IoU. Scores of nothing at all are 1.
    Source: arXiv 1806.03535. Raises ShapeError, InvalidArgumentError.
    """
    if truth.shape != found.shape:
        raise ShapeError(
            "the instance maps differ in shape", where="instance_scores", expected=truth.shape, got=found.shape
        )
    if not 0 < threshold <= 1:
        raise InvalidArgumentError(
            "bad threshold", where="instance_scores", expected="above 0, at most 1", got=threshold
        )
    iou = _overlaps(truth, found)
    rows, columns = linear_sum_assignment(-((iou >= threshold) + iou / (2 * max(min(iou.shape), 1))))
    hits = int((iou[rows, columns] >= threshold).sum())
    misses, extra = iou.shape[0] - hits, iou.shape[1] - hits
    return {
        "f1": _share(2 * hits, 2 * hits + misses + extra),
        "precision": _share(hits, hits + extra) if hits + extra or not misses else 0.0,
        "recall": _share(hits, hits + misses) if hits + misses or not extra else 0.0,
        "tp": float(hits),
        "fp": float(extra),
        "fn": float(misses),
    }


def _overlaps(truth: Instances, found: Instances) -> npt.NDArray[np.float64]:
    """IoU (instances of truth, instances of found)."""
    names, first = np.unique(truth, return_inverse=True)
    others, second = np.unique(found, return_inverse=True)
    both = np.zeros((len(names), len(others)), np.int64)
    np.add.at(both, (first.ravel(), second.ravel()), 1)
    union = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    iou = both / np.maximum(union, 1)
    kept: npt.NDArray[np.float64] = iou[names != 0][:, others != 0]
    return kept


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0

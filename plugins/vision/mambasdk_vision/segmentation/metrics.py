"""Scores of classes of pixels, from a confusion matrix. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mambasdk.evaluation import confusion_matrix

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SegmentationScores:
    """Of a confusion matrix (C, C) of pixels: rows are the classes, columns what they were taken for.

    iou: float64 (C), pixels of a class that are right, of those that are or were taken for it; NaN where there are
    none. accuracy: float64 (C), of those that are it. pixels: int64 (C).
    """

    iou: Shares
    accuracy: Shares
    pixels: Counts
    pixel_accuracy: float

    @classmethod
    def of(cls, matrix: Counts) -> SegmentationScores:
        """The scores of a confusion matrix."""
        hits, given, found = np.diag(matrix).astype(np.float64), matrix.sum(1), matrix.sum(0)
        total = int(given.sum())
        right = float(hits.sum() / total) if total else float("nan")
        return cls(_share(hits, given + found - np.diag(matrix)), _share(hits, given), given, right)

    @property
    def mean_iou(self) -> float:
        """mIoU: mean over the classes that occur, in the masks or in the answers."""
        occurring = self.iou[~np.isnan(self.iou)]
        return float(occurring.mean()) if occurring.size else float("nan")

    def metrics(self) -> dict[str, float]:
        """`mIoU`, `pixel_accuracy` and `mean_accuracy`, the mean over the classes that the masks have."""
        seen = self.accuracy[~np.isnan(self.accuracy)]
        mean = float(seen.mean()) if seen.size else float("nan")
        return {"mIoU": self.mean_iou, "pixel_accuracy": self.pixel_accuracy, "mean_accuracy": mean}

    def rows(self, labels: Sequence[str]) -> list[dict[str, object]]:
        """A row for each class: its IoU and accuracy, None where they are not defined, and its pixels."""
        return [
            {"class": label, "iou": _defined(self.iou[i]), "accuracy": _defined(self.accuracy[i]), "pixels": int(count)}
            for i, (label, count) in enumerate(zip(labels, self.pixels, strict=True))
        ]


def mask_confusion(mask: npt.ArrayLike, found: npt.ArrayLike, classes: int, ignore: int = 255) -> Counts:
    """int64 (C, C) of two maps of the same shape; pixels that are `ignore` in either are left out."""
    y, x = np.asarray(mask), np.asarray(found)
    counted = (y != ignore) & (x != ignore)
    return confusion_matrix(y[counted], x[counted], classes)


def _share(part: Shares, whole: Counts) -> Shares:
    result: Shares = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return result


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

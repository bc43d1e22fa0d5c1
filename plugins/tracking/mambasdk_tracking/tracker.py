"""Tracking by detection: thin faces of the native processor, head and operations."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.pipeline import NativeProcessor, PluginProcessor, raw_input
from mambasdk.plugins import get_host


class DetectionsProcessor(PluginProcessor):
    """Boxes of a frame, or a whole sequence as MOTChallenge text, to one table.

    Options: box_format ("xyxy" or "xywh", of arrays), output ("detections"), max_frames (1000000, of a text),
    max_detections (1000, of a frame).
    """

    plugin = "tracking"
    kind = "detections"

    def __call__(self, detections: str | os.PathLike[str] | bytes | Any) -> dict[str, Any]:
        """detections: a path or the bytes of a det.txt, or float32 (n, 4 to 6): box, score, class. Returns

        detections: float32 (n, 6): x1, y1, x2, y2, score, class; frames: int64 (n), from 0; frame_count: int64 (1).
        """
        return self.run(detections=raw_input(detections))


class Tracker:
    """Identities for the detections of frame after frame: IoU association in two rounds, Kalman motion, life cycle.

    Options: score_threshold (0.2), new_track_score (0.6), iou_first (0.3), iou_second (0.1), max_age (30 frames),
    min_hits (1), class_aware (False), plus_one (False), motion (True), max_tracks (4096); box_format, max_frames and
    max_detections as of DetectionsProcessor.
    """

    def __init__(self, **options: Any) -> None:
        of_input = {
            name: options.pop(name) for name in ("box_format", "max_frames", "max_detections") if name in options
        }
        self._prepare = DetectionsProcessor(**of_input)
        self._head = NativeProcessor("tracking", "tracker", options, head=True)

    def update(self, detections: str | os.PathLike[str] | bytes | Any) -> list[dict[str, Any]]:
        """The next frame, float32 (n, 4 to 6), n may be 0; or a whole sequence as a det.txt (path or bytes).

        Returns the tracks that were matched, {"frame", "id", "box": [x1, y1, x2, y2], "score", "class"} of each.
        """
        tracks: list[dict[str, Any]] = self._head.run(**self._prepare(detections))["json"]["tracks"]
        return tracks

    def reset(self) -> None:
        """Forget all tracks; ids and frames begin at 1 again."""
        self._head.reset()


def linear_assignment(cost: Any, limit: float) -> npt.NDArray[np.int64]:
    """The column of each row, int64 (R), -1 for none, in the best matching of a cost matrix, float64 (R, C).

    Minimises the sum of the pairs' costs plus limit / 2 for every unmatched row and column; no pair costs more than the
    limit, and costs that are not finite forbid a pair.
    """
    columns: npt.NDArray[np.int64] = _operation("linear_assignment", cost=np.asarray(cost, np.float64), limit=limit)[
        "columns"
    ]
    return columns


def kalman_predict(mean: Any, covariance: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """One frame of the constant-velocity filter. mean: float64 (N, 8); covariance: float64 (N, 8, 8); returns both."""
    made = _operation("kalman_predict", mean=mean, covariance=covariance)
    return made["predicted_mean"], made["predicted_covariance"]


def kalman_update(
    mean: Any, covariance: Any, measurement: Any
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Measured boxes, float64 (N, 4) as centre x, centre y, width / height, height, into states; returns both."""
    made = _operation("kalman_update", mean=mean, covariance=covariance, measurement=measurement)
    return made["updated_mean"], made["updated_covariance"]


def _operation(name: str, **arguments: Any) -> dict[str, Any]:
    host = get_host()
    host.activate(host.owner("processor", "detections.detections"))
    made: dict[str, Any] = importlib.import_module("mambasdk._core").call(name, **arguments)
    return made

"""Tracking by detection: thin faces of the native heads and operations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.pipeline import NativeProcessor, load_model
from mambasdk.plugins import get_host
from mambasdk_tracking.processors import DetectionsProcessor

_OF_INPUT = ("box_format", "max_frames", "max_detections")
_WITHOUT_MODEL = ("kalman", "none")


class Tracker:
    """Identities for the detections of frame after frame: IoU association in two rounds, motion, life cycle.

    motion: "kalman" (a constant-velocity filter), "none" (a track is expected where it was last), or the folder of a
    `mambatrack` package, whose model predicts all tracks of a frame together; it needs image_size, (width, height) in
    pixels.
    Options: score_threshold (0.2), new_track_score (0.6), iou_first (0.3), iou_second (0.1), patching (True: lost
    tracks go on by their own predictions and have the second round), max_age (30 frames), min_hits (1), duplicate_iou
    (1.0: off), class_aware (False), plus_one (False), max_tracks (4096), min_history (6 boxes, of a model); box_format,
    max_frames and max_detections as of DetectionsProcessor.
    """

    def __init__(
        self,
        motion: str | os.PathLike[str] = "kalman",
        *,
        image_size: tuple[float, float] | None = None,
        **options: Any,
    ) -> None:
        of_input = {name: options.pop(name) for name in _OF_INPUT if name in options}
        self._prepare = DetectionsProcessor(**of_input)
        if image_size is not None:
            options["image_size"] = [float(side) for side in image_size]
        model = None
        if str(motion) in _WITHOUT_MODEL:
            options["motion"] = str(motion)
        else:
            directory = os.path.abspath(motion)
            options["motion"] = "model"
            if not os.path.isdir(directory):
                raise InvalidArgumentError(
                    "bad motion",
                    where="Tracker",
                    expected='"kalman", "none" or the folder of a mambatrack package',
                    got=repr(os.fspath(motion)),
                )
            model = load_model(directory)
        self._head = NativeProcessor("tracking", "tracker", options, head=True, model=model)

    def update(self, detections: str | os.PathLike[str] | bytes | Any, *, skipped: int = 0) -> list[dict[str, Any]]:
        """The next frame, float32 (n, 4 to 6), n may be 0; or a whole sequence as a det.txt (path or bytes).

        skipped: frames before this one that nobody looked at; tracks move on through them, and grow older.
        Returns the tracks that were matched, {"frame", "id", "box": [x1, y1, x2, y2], "score", "class"} of each.
        """
        made = self._prepare(detections)
        if skipped < 0:
            raise InvalidArgumentError("bad skipped", where="Tracker.update", expected="0 or more", got=skipped)
        if skipped:
            made = {**made, "frames": made["frames"] + skipped, "frame_count": made["frame_count"] + skipped}
        return self._run(made)

    def sequence(
        self, detections: str | os.PathLike[str] | bytes, frame_count: int | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """A det.txt (path or bytes), frame by frame: the tracks of each frame, as `update` gives them.

        frame_count: length of the video, where it goes on after the last detection.
        """
        made = self._prepare(detections)
        table, frames = made["detections"], made["frames"]
        count = max(int(made["frame_count"][0]), frame_count or 0)
        ends = np.searchsorted(frames, np.arange(1, count + 1))
        start = 0
        for end in ends.tolist():
            now = {
                "detections": table[start:end],
                "frames": np.zeros(end - start, np.int64),
                "frame_count": np.ones(1, np.int64),
            }
            start = end
            yield self._run(now)

    def reset(self) -> None:
        """Forget all tracks; ids and frames begin at 1 again."""
        self._head.reset()

    def _run(self, made: Mapping[str, Any]) -> list[dict[str, Any]]:
        tracks: list[dict[str, Any]] = self._head.run(**made)["json"]["tracks"]
        return tracks


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
    from mambasdk import runtime

    host = get_host()
    host.activate(host.owner("processor", "detections.detections"))
    return runtime.call(name, **arguments)

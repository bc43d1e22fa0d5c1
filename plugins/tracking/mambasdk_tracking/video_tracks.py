"""From video to tracks: a detector on every frame, and a tracker on what it finds."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk_tracking.mot import Table, make_table, table_of_tracks
from mambasdk_tracking.tracker import Tracker
from mambasdk_tracking.video import Video

# A frame, and its name in errors -> float32 (n, 6): x1, y1, x2, y2, score, class.
Detect = Callable[..., npt.NDArray[np.float32]]


@dataclass(frozen=True)
class VideoTracks:
    """Tracks and detections of a video. frames: how many were read; seconds: of all that was done."""

    tracks: Table
    detections: Table
    frames: int
    seconds: float


def track_video(
    video: Video,
    detector: Detect,
    motion: str | os.PathLike[str] = "kalman",
    *,
    every: int = 1,
    max_frames: int | None = None,
    **options: Any,
) -> VideoTracks:
    """Detect and track in one pass over the video; frames are numbered from 1.

    detector: a Detector, or a function like it. motion and options: those of Tracker, whose image_size is the video's.
    every: look at frames 1, 1 + every, 1 + 2 * every and so on; tracks move on through the others, which have no boxes.
    max_frames: stop after that many of the video. Raises InvalidArgumentError for damaged frames and those of another
    size, with the frame.
    """
    for name, value in (("every", every), ("max_frames", max_frames)):
        if value is not None and value < 1:
            raise InvalidArgumentError(f"bad {name}", where="track_video", expected="1 or more", got=value)
    tracker = Tracker(motion, image_size=video.size, **options)
    total = video.length if max_frames is None else min(max_frames, video.length or max_frames)
    found: list[dict[str, Any]] = []
    boxes: list[npt.NDArray[np.float32]] = []
    numbers: list[int] = []
    count = 0
    start = time.perf_counter()
    for frame in track(itertools.islice(video.frames(), max_frames), f"tracking {video.name}", total):
        count = frame.number
        if (count - 1) % every:
            continue
        detections = detector(frame.data(), frame.where)  # (n, 6)
        found += tracker.update(detections, skipped=every - 1 if count > 1 else 0)
        boxes.append(detections)
        numbers += [count] * len(detections)
    rows = np.concatenate([*boxes, np.zeros((0, 6))]).astype(np.float64)
    left_top_size = np.concatenate([rows[:, :2], rows[:, 2:4] - rows[:, :2]], 1)
    return VideoTracks(
        table_of_tracks(found),
        make_table(numbers, np.full(len(rows), -1), left_top_size, rows[:, 4]),
        count,
        time.perf_counter() - start,
    )

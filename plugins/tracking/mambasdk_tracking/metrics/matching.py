"""Ground truth and tracks frame by frame, with the IoU of every pair; and the assignment that all metrics use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk_tracking.mot import Floats, Integers, Table

EPSILON = float(np.finfo("float").eps)


@dataclass
class FramePairs:
    """A sequence ready for the metrics: ids count from 0 without gaps, and there is one entry per frame with any box.

    truth, tracks: int64 (g), (t) of each frame. similarity: float64 (g, t), IoU. truth_count, track_count: number of
    ids.
    """

    truth: list[Integers]
    tracks: list[Integers]
    similarity: list[Floats]
    truth_count: int
    track_count: int

    def __iter__(self) -> Iterator[tuple[Integers, Integers, Floats]]:
        return zip(self.truth, self.tracks, self.similarity, strict=True)

    def truth_sizes(self) -> Floats:
        """In how many frames each true id is, float64 (G)."""
        return _sizes(self.truth, self.truth_count)

    def track_sizes(self) -> Floats:
        """In how many frames each track is, float64 (T)."""
        return _sizes(self.tracks, self.track_count)


def _sizes(frames: list[Integers], count: int) -> Floats:
    together = np.concatenate([*frames, np.zeros(0, np.int64)])
    return np.bincount(together, minlength=count).astype(np.float64)


def pair_frames(truth: Table, tracks: Table) -> FramePairs:
    """Both tables frame by frame. Frames without any box change no metric and are left out."""
    if (truth.ids < 0).any() or (tracks.ids < 0).any():
        raise InvalidArgumentError(
            "rows without an id", where="metrics", expected="ids from 0", way_out="are these detections, not tracks?"
        )
    truth_names, truth_ids = np.unique(truth.ids, return_inverse=True)
    track_names, track_ids = np.unique(tracks.ids, return_inverse=True)
    frames = np.union1d(truth.frames, tracks.frames)
    truth_at = np.searchsorted(truth.frames, frames, side="right")
    track_at = np.searchsorted(tracks.frames, frames, side="right")
    pairs = FramePairs([], [], [], len(truth_names), len(track_names))
    g = t = 0
    for truth_end, track_end in zip(truth_at.tolist(), track_at.tolist(), strict=True):
        pairs.truth.append(truth_ids[g:truth_end])
        pairs.tracks.append(track_ids[t:track_end])
        pairs.similarity.append(box_iou(truth.boxes[g:truth_end], tracks.boxes[t:track_end]))
        g, t = truth_end, track_end
    return pairs


def box_iou(a: Floats, b: Floats) -> Floats:
    """IoU (n, m) of boxes (n, 4) and (m, 4): left, top, width, height; 0 for boxes without area."""
    a_low, b_low = a[:, None, :2], b[None, :, :2]
    a_high, b_high = a_low + a[:, None, 2:], b_low + b[None, :, 2:]
    sides = np.maximum(np.minimum(a_high, b_high) - np.maximum(a_low, b_low), 0)  # (n, m, 2)
    common = sides.prod(-1)
    a_area, b_area = (a_high - a_low).prod(-1), (b_high - b_low).prod(-1)  # (n, 1), (1, m)
    union = a_area + b_area - common
    valid = (a_area > EPSILON) & (b_area > EPSILON) & (union > EPSILON)
    result: Floats = np.where(valid, common / np.where(valid, union, 1), 0)
    return result


def best_pairs(score: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the matching with the largest sum. SciPy's, as in TrackEval: ties fall the same way."""
    optimize: Any = require_module("scipy.optimize", "tracking metrics", "pip install 'mambasdk-tracking[metrics]'")
    rows, columns = optimize.linear_sum_assignment(score, maximize=True)
    return rows, columns

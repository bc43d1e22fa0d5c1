"""Training data of motion predictors: windows of box deltas along tracks (arXiv 2408.09178). No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError
from mambasdk_tracking.mot import Floats, Table


@dataclass
class Windows:
    """Each row is a moment of a track: its last deltas, and what came next.

    deltas: float32 (N, window, 4), oldest first, as the model takes them. target: float32 (N, 4), the next delta.
    last, next: float64 (N, 4), the boxes before and after it: centre x, centre y, width, height in pixels.
    size: float64 (N, 4), width, height, width, height of the image.
    """

    deltas: NDArray[np.float32]
    target: NDArray[np.float32]
    last: Floats
    next: Floats
    size: Floats
    scale: float

    def __len__(self) -> int:
        return len(self.deltas)

    def boxes_from(self, predicted: NDArray[np.float32]) -> Floats:
        """The boxes (N, 4) that predicted deltas (N, 4) mean."""
        result: Floats = self.last + predicted.astype(np.float64) * self.size / self.scale
        return result


def track_paths(table: Table, least: int) -> list[Floats]:
    """The runs of at least `least` frames without a gap of every track: boxes (n, 4), centre x, y, width, height."""
    paths = []
    order = np.lexsort((table.frames, table.ids))
    frames, ids, boxes = table.frames[order], table.ids[order], table.boxes[order]
    centred = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], 1)
    breaks = np.flatnonzero((np.diff(ids) != 0) | (np.diff(frames) != 1)) + 1
    for path in np.split(centred, breaks):
        if len(path) >= least:
            paths.append(path)
    return paths


def make_windows(
    paths: Iterable[tuple[Floats, tuple[float, float]]], *, window: int = 10, scale: float = 50.0
) -> Windows:
    """Every run of window + 2 boxes of the paths (boxes (n, 4), image size) as a row.

    Raises InvalidArgumentError where no path is long enough, or a box is empty or not finite.
    """
    deltas, last, following, sizes = [], [], [], []
    for path, image_size in paths:
        count = len(path) - window - 1
        if count < 1:
            continue
        if not np.isfinite(path).all() or (path[:, 2:] <= 0).any():
            raise InvalidArgumentError("a box of a track is empty or not finite", where="make_windows")
        size = np.array([*image_size, *image_size], np.float64)
        steps = np.diff(path, axis=0) / size * scale  # (n - 1, 4)
        deltas.append(np.lib.stride_tricks.sliding_window_view(steps, window + 1, axis=0).transpose(0, 2, 1))
        last.append(path[window:-1])
        following.append(path[window + 1 :])
        sizes.append(np.broadcast_to(size, (count, 4)))
    if not deltas:
        raise InvalidArgumentError(
            "no track is long enough", where="make_windows", expected=f"at least {window + 2} frames without a gap"
        )
    runs = np.concatenate(deltas).astype(np.float32)  # (N, window + 1, 4)
    return Windows(
        np.ascontiguousarray(runs[:, :window]),
        np.ascontiguousarray(runs[:, window]),
        np.concatenate(last),
        np.concatenate(following),
        np.concatenate(sizes),
        scale,
    )


def split_tracks(
    paths: Sequence[tuple[Floats, tuple[float, float]]], held_out: float
) -> tuple[list[tuple[Floats, tuple[float, float]]], list[tuple[Floats, tuple[float, float]]]]:
    """(to train on, held out): whole tracks, evenly taken from all sequences, at least one on either side."""
    if not 0 < held_out < 1:
        raise InvalidArgumentError("bad held_out", where="split_tracks", expected="above 0, below 1", got=held_out)
    if len(paths) < 2:
        raise InvalidArgumentError("too few tracks", where="split_tracks", expected="two or more", got=len(paths))
    count = min(max(round(held_out * len(paths)), 1), len(paths) - 1)
    chosen = set(np.linspace(0, len(paths) - 1, count).round().astype(int).tolist())
    return [p for i, p in enumerate(paths) if i not in chosen], [p for i, p in enumerate(paths) if i in chosen]


def paired_iou(a: Floats, b: Floats) -> Floats:
    """IoU (…) of boxes (…, 4) and (…, 4), pair by pair: centre x, centre y, width, height."""
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    common = np.maximum(high - low, 0).prod(-1)
    result: Floats = common / (np.abs(a[..., 2:].prod(-1)) + np.abs(b[..., 2:].prod(-1)) - common)
    return result


def centre_error(predicted: Floats, true: Floats) -> Floats:
    """Distance (…) of the centres of boxes (…, 4), in heights of the true box."""
    result: Floats = np.linalg.norm(predicted[..., :2] - true[..., :2], axis=-1) / true[..., 3]
    return result

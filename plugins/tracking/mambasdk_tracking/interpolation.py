"""Gaps of finished tracks, filled by straight lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from mambasdk.errors import InvalidArgumentError
from mambasdk_tracking.mot import Floats, Table, make_table


def interpolate(tracks: Table, max_gap: int = 20) -> Table:
    """Tracks with a box in every frame of gaps of at most `max_gap` missing frames, on the line between their ends.

    Scores lie on the line too; classes are those before the gap. Longer gaps stay. This looks ahead, so it is for
    finished tracks (ByteTrack, arXiv 2110.06864, interpolates up to 20 frames). Raises InvalidArgumentError for
    a negative max_gap, or rows without an id.
    """
    gaps = filled_gaps(tracks, max_gap)
    return make_table(
        *(np.concatenate(columns) for columns in zip(_columns(tracks), _columns(gaps), strict=True)),
    )


def filled_gaps(tracks: Table, max_gap: int = 20) -> Table:
    """What `interpolate` adds: the boxes of the gaps alone."""
    if max_gap < 0:
        raise InvalidArgumentError("bad max_gap", where="interpolate", expected="0 or more", got=max_gap)
    if (tracks.ids < 0).any():
        raise InvalidArgumentError("rows without an id", where="interpolate", expected="tracks, not detections")
    order = np.lexsort((tracks.frames, tracks.ids))
    frames, ids = tracks.frames[order], tracks.ids[order]
    missing = np.diff(frames) - 1
    before = np.flatnonzero((np.diff(ids) == 0) & (missing > 0) & (missing <= max_gap))
    left = np.repeat(before, missing[before])  # the row before each new box
    place = np.arange(len(left)) - np.repeat(np.cumsum(missing[before]) - missing[before], missing[before]) + 1
    share = place / (missing[left] + 1)

    def on_the_line(values: Floats) -> Floats:
        column = values[order]
        weight = share.reshape(-1, *[1] * (column.ndim - 1))
        line: Floats = column[left] + weight * (column[left + 1] - column[left])
        return line

    return make_table(
        frames[left] + place,
        ids[left],
        on_the_line(tracks.boxes),
        on_the_line(tracks.values),
        tracks.classes[order][left],
        on_the_line(tracks.visibility),
    )


def _columns(table: Table) -> tuple[Any, ...]:
    return table.frames, table.ids, table.boxes, table.values, table.classes, table.visibility

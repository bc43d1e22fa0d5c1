"""A picture of tracks: where they went, and when each of them was seen. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mambasdk.errors import require_module
from mambasdk_tracking.mot import Table

_LABELS = 40  # more of them cover each other


def draw_tracks(
    path: str | os.PathLike[str],
    tracks: Table,
    *,
    truth: Table | None = None,
    image_size: Sequence[float] | None = None,
    title: str = "",
) -> None:
    """Write a PNG, one colour a track: the centres' paths in the image, x over time, and each track's frames.

    truth: paths in grey beneath. image_size: (width, height) in pixels; else the picture is as large as the tracks.
    """
    require_module("matplotlib", "drawing tracks", "pip install 'mambasdk-tracking[plot]'")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ids = np.unique(tracks.ids)
    figure = Figure(figsize=(10, 13), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    where, along, when = figure.subplots(3, 1, height_ratios=[1.45, 1.1, 0.9])
    if truth is not None and len(truth):
        for label, identity in enumerate(np.unique(truth.ids)):
            frames, x, y = _path(truth, identity)
            where.plot(x, y, color="#cccccc", linewidth=3.5, label=None if label else "ground truth")
            along.plot(frames, x, color="#cccccc", linewidth=3.5)
        where.legend(loc="upper right")
    for index, identity in enumerate(ids):
        _draw_one((where, along, when), tracks, identity, index, labelled=len(ids) <= _LABELS)
    count = tracks.frame_count
    where.set(xlabel="x, pixels", ylabel="y, pixels", title=title or "tracks")
    if image_size is None:
        where.set_aspect("equal", adjustable="datalim")
        where.invert_yaxis()
    else:
        where.set_aspect("equal", adjustable="box")
        where.set(xlim=(0, float(image_size[0])), ylim=(float(image_size[1]), 0))
    along.set(xlabel="frame", ylabel="x of the centre, pixels", xlim=(0, count + 1))
    when.set(xlabel="frame", ylabel="track id", xlim=(0, count + 1), title=f"{len(ids)} tracks in {count} frames")
    step = 1 + (len(ids) - 1) // 20
    when.set_yticks(range(0, len(ids), step), [str(identity) for identity in ids[::step]])
    when.invert_yaxis()
    for axes in (where, along, when):
        axes.grid(alpha=0.25)
    figure.savefig(path)


def _draw_one(panels: tuple[Any, Any, Any], tracks: Table, identity: int, index: int, *, labelled: bool) -> None:
    from matplotlib import colormaps

    where, along, when = panels
    colour = colormaps["tab10"](index % 10)
    frames, x, y = _path(tracks, identity)
    where.plot(x, y, color=colour, linewidth=1.4)
    along.plot(frames, x, color=colour, linewidth=1.4)
    seen = tracks.frames[tracks.ids == identity]
    last = ~np.isnan(x)
    where.plot(x[last][-1:], y[last][-1:], "o", color=colour, markersize=4)
    if labelled and len(seen) > 1:
        for axes, horizontal, vertical in ((where, x, y), (along, frames, x)):
            axes.annotate(
                str(identity),
                (horizontal[last][-1], vertical[last][-1]),
                xytext=(4, 3),
                textcoords="offset points",
                color=colour,
                fontweight="bold",
            )
    runs = np.split(seen, np.flatnonzero(np.diff(seen) != 1) + 1)
    when.broken_barh([(run[0] - 0.5, len(run)) for run in runs], (index - 0.4, 0.8), color=colour)


def _path(table: Table, identity: int) -> tuple[Any, Any, Any]:
    """Frames and centres of a track, with a NaN wherever frames are missing so that the line is broken there."""
    rows = table.ids == identity
    frames, boxes = table.frames[rows].astype(np.float64), table.boxes[rows]
    gaps = np.flatnonzero(np.diff(frames) != 1) + 1
    columns = (frames, boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2)
    frames, x, y = (np.insert(column, gaps, np.nan) for column in columns)
    return frames, x, y

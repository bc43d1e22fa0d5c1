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
    """Write a PNG: the paths of the boxes' centres in the image, one colour a track, and each track's frames below.

    truth: paths in grey beneath. image_size: (width, height) in pixels; else the picture is as large as the tracks.
    """
    require_module("matplotlib", "drawing tracks", "pip install 'mambasdk-tracking[plot]'")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ids = np.unique(tracks.ids)
    figure = Figure(figsize=(9, 9), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    where, when = figure.subplots(2, 1, height_ratios=[1.6, 1])
    if truth is not None and len(truth):
        for label, identity in enumerate(np.unique(truth.ids)):
            x, y = _path(truth, identity)
            where.plot(x, y, color="#bdbdbd", linewidth=3.5, zorder=1, label=None if label else "ground truth")
        where.legend(loc="upper right", frameon=True)
    for index, identity in enumerate(ids):
        _draw_one(where, when, tracks, identity, index, labelled=len(ids) <= _LABELS)
    where.set(xlabel="x, pixels", ylabel="y, pixels", title=title or "tracks")
    if image_size is not None:
        where.set_xlim(0, float(image_size[0]))
        where.set_ylim(float(image_size[1]), 0)
    else:
        where.invert_yaxis()
    where.set_aspect("equal", adjustable="box")
    where.grid(alpha=0.25)
    when.set(xlabel="frame", ylabel="track id", title=f"{len(ids)} tracks in {tracks.frame_count} frames")
    when.set_xlim(0, tracks.frame_count + 1)
    if len(ids) <= _LABELS:
        when.set_yticks(range(len(ids)), [str(identity) for identity in ids], fontsize=7 if len(ids) > 16 else 9)
    else:
        when.set_ylabel("track, in order of ids")
    when.invert_yaxis()
    when.grid(axis="x", alpha=0.25)
    figure.savefig(path)


def _draw_one(where: Any, when: Any, tracks: Table, identity: int, index: int, *, labelled: bool) -> None:
    from matplotlib import colormaps

    colour = colormaps["tab20"](index % 20)
    x, y = _path(tracks, identity)
    where.plot(x, y, color=colour, linewidth=1.4, zorder=2)
    seen = ~np.isnan(x)
    where.plot(x[seen][-1:], y[seen][-1:], "o", color=colour, markersize=4, zorder=3)
    if labelled:
        where.annotate(
            str(identity),
            (x[seen][-1], y[seen][-1]),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=9,
            color=colour,
            fontweight="bold",
            zorder=4,
        )
    frames = tracks.frames[tracks.ids == identity]
    breaks = np.flatnonzero(np.diff(frames) != 1) + 1
    spans = [(run[0] - 0.5, len(run)) for run in np.split(frames, breaks)]
    when.broken_barh(spans, (index - 0.38, 0.76), color=colour)


def _path(table: Table, identity: int) -> tuple[Any, Any]:
    """Centres of a track, with a NaN wherever frames are missing so that the line is broken there."""
    rows = table.ids == identity
    frames, boxes = table.frames[rows], table.boxes[rows]
    x, y = boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2
    gaps = np.flatnonzero(np.diff(frames) != 1) + 1
    return np.insert(x, gaps, np.nan), np.insert(y, gaps, np.nan)

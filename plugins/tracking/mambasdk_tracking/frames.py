"""Tracks on the frames of their video: boxes, ids and trails, as a video, a GIF or pictures. Needs Pillow."""

from __future__ import annotations

import colorsys
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.errors import require_module
from mambasdk.progress import track
from mambasdk_tracking.mot import SequenceInfo, Table
from mambasdk_tracking.video import Video
from mambasdk_tracking.video_files import writer_of

_TRAIL = 30  # frames that a trail reaches back


def draw_frames(
    out: str | os.PathLike[str],
    tracks: Table,
    *,
    gaps: Table | None = None,
    video: Video | None = None,
    info: SequenceInfo | None = None,
    count: int = 0,
) -> Path:
    """Draw every frame's boxes with ids and trails, a colour for each track.

    out: a video (.mp4, .mkv, .mov, .avi; needs PyAV), a .gif, or a folder that gets 000001.jpg and so on. gaps: boxes
    that nobody saw, as `filled_gaps` has them: drawn dashed. video: its frames; None draws on white of
    `info.image_size`, or as large as the tracks. count: how many frames, 0: all of the video, without one up to the
    last track. Returns `out`. Raises InvalidArgumentError for another ending and for frames that cannot be read, and
    MissingDependencyError without Pillow.
    """
    require_module("PIL", "drawing tracks on frames", "pip install 'mambasdk-tracking[plot]'")
    target = Path(out)
    write = writer_of(target)
    canvas = _blank(_canvas_size(tracks, info)) if video is None else (frame.picture() for frame in video.frames())
    limit = count or (max(tracks.frame_count, 1) if video is None else None)
    total = limit or (video.length if video is not None else None)
    rate = video.frame_rate if video is not None else info.frame_rate if info is not None else 30.0
    pictures = _drawn(itertools.islice(canvas, limit), tracks, gaps)
    write(target, iter(track(pictures, f"drawing {target.name}", total)), rate)
    return target


def colour_of(identity: int) -> tuple[int, int, int]:
    """An RGB colour for a track; hues of consecutive ids lie far apart (golden ratio)."""
    red, green, blue = colorsys.hsv_to_rgb(identity * 0.61803398875 % 1, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _canvas_size(tracks: Table, info: SequenceInfo | None) -> tuple[int, int]:
    if info is not None:
        return info.image_size
    if not len(tracks):
        return 640, 480
    right, bottom = (tracks.boxes[:, :2] + tracks.boxes[:, 2:]).max(0)
    return min(max(int(right) + 1, 16), 4096), min(max(int(bottom) + 1, 16), 4096)


def _blank(size: tuple[int, int]) -> Iterator[Any]:
    from PIL import Image

    while True:
        yield Image.new("RGB", size, "white")


def _drawn(canvas: Iterator[Any], tracks: Table, gaps: Table | None) -> Iterator[Any]:
    """The pictures with the tracks of frame 1, 2 and so on drawn on them."""
    trails: dict[int, list[tuple[int, float, float]]] = {}
    for number, picture in enumerate(canvas, 1):
        boxes = [*_boxes(tracks, number, True), *([] if gaps is None else _boxes(gaps, number, False))]
        _draw(picture, boxes, number, trails)
        yield picture


def _boxes(table: Table, number: int, seen: bool) -> list[tuple[int, list[float], bool]]:
    """Of one frame: id; left, top, right and bottom; whether it was seen."""
    first, last = np.searchsorted(table.frames, (number, number + 1))
    rows = table.select(slice(first, last))
    corners = np.concatenate((rows.boxes[:, :2], rows.boxes[:, :2] + np.maximum(rows.boxes[:, 2:], 0)), 1)
    return [(identity, box, seen) for identity, box in zip(rows.ids.tolist(), corners.tolist(), strict=True)]


def _draw(
    picture: Any,
    boxes: list[tuple[int, list[float], bool]],
    number: int,
    trails: dict[int, list[tuple[int, float, float]]],
) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 500))
    for identity, (left, _, right, bottom), _ in boxes:
        trails.setdefault(identity, []).append((number, (left + right) / 2, bottom))
    for identity in list(trails):
        trails[identity] = [point for point in trails[identity] if number - point[0] < _TRAIL]
        if not trails[identity]:
            del trails[identity]
        elif len(trails[identity]) > 1:
            pen.line([(x, y) for _, x, y in trails[identity]], fill=colour_of(identity), width=width)
    for identity, (left, top, right, bottom), seen in boxes:
        colour = colour_of(identity)
        if not seen:
            _draw_dashed(pen, (left, top, right, bottom), colour, width)
            continue
        pen.rectangle((left, top, right, bottom), outline=colour, width=width)
        label = str(identity)
        box = pen.textbbox((left + 2, top + 1), label)
        pen.rectangle((left, top, box[2] + 2, box[3] + 2), fill=colour)
        pen.text((left + 2, top + 1), label, fill="white")


def _draw_dashed(pen: Any, box: tuple[float, float, float, float], colour: tuple[int, int, int], width: int) -> None:
    """A rectangle of dashes, as long as the pauses between them."""
    left, top, right, bottom = box
    dash = 4 * width
    for x in np.arange(left, right, 2 * dash).tolist():
        for y in (top, bottom):
            pen.line((x, y, min(x + dash, right), y), fill=colour, width=width)
    for y in np.arange(top, bottom, 2 * dash).tolist():
        for x in (left, right):
            pen.line((x, y, x, min(y + dash, bottom)), fill=colour, width=width)

"""Tracks on the frames of their video: boxes, ids and trails, as pictures or as a GIF. Needs Pillow."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk.progress import track
from mambasdk_tracking.mot import SequenceInfo, Table

_TRAIL = 30  # frames that a trail reaches back
_GIF_SIDE = 640  # longest side of a GIF, in pixels
_SUFFIXES = (".jpg", ".jpeg", ".png")


def frame_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures of a video's folder (`img1` in it, where there is one), in the order of their names.

    Raises InvalidArgumentError where there is none.
    """
    place = Path(folder)
    place = place / "img1" if (place / "img1").is_dir() else place
    found = sorted(path for path in place.glob("*") if path.suffix.lower() in _SUFFIXES) if place.is_dir() else []
    if not found:
        raise InvalidArgumentError("no frames", where=str(place), expected=f"pictures: {', '.join(_SUFFIXES)}")
    return found


def draw_frames(
    out: str | os.PathLike[str],
    tracks: Table,
    *,
    frames: str | os.PathLike[str] | None = None,
    info: SequenceInfo | None = None,
    count: int = 0,
) -> Path:
    """Draw every frame's boxes with ids and trails, a colour for each track.

    out: a name that ends in .gif, or a folder that gets 000001.jpg and so on. frames: folder of the video's pictures,
    the first is frame 1; None draws on white of `info.image_size`, or as large as the tracks. count: how many frames
    without pictures; 0: up to the last track. Returns `out`. Raises InvalidArgumentError, or MissingDependencyError
    without Pillow.
    """
    require_module("PIL", "drawing tracks on frames", "pip install 'mambasdk-tracking[plot]'")
    files = frame_files(frames) if frames is not None else []
    total = len(files) or count or tracks.frame_count
    target = Path(out)
    pictures = _pictures(tracks, files, total, _canvas_size(tracks, info))
    if target.suffix.lower() == ".gif":
        _write_gif(target, pictures, total, info.frame_rate if info else 30.0)
        return target
    target.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(track(pictures, "drawing", total), 1):
        picture.save(target / f"{number:06}.jpg", quality=90)
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


def _pictures(tracks: Table, files: list[Path], total: int, size: tuple[int, int]) -> Iterator[Any]:
    from PIL import Image

    trails: dict[int, list[tuple[int, float, float]]] = {}
    for number in range(1, total + 1):
        if files:
            try:
                with Image.open(files[number - 1]) as file:
                    picture = file.convert("RGB")
            except (OSError, ValueError) as error:
                raise InvalidArgumentError(f"cannot be read: {error}", where=str(files[number - 1])) from error
        else:
            picture = Image.new("RGB", size, "white")
        first, last = np.searchsorted(tracks.frames, (number, number + 1))
        _draw(picture, tracks.select(slice(first, last)), number, trails)
        yield picture


def _draw(picture: Any, rows: Table, number: int, trails: dict[int, list[tuple[int, float, float]]]) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 500))
    for identity, (left, top, wide, high) in zip(rows.ids.tolist(), rows.boxes.tolist(), strict=True):
        trails.setdefault(identity, []).append((number, left + wide / 2, top + high))
    for identity in list(trails):
        trails[identity] = [point for point in trails[identity] if number - point[0] < _TRAIL]
        if not trails[identity]:
            del trails[identity]
        elif len(trails[identity]) > 1:
            pen.line([(x, y) for _, x, y in trails[identity]], fill=colour_of(identity), width=width)
    for identity, (left, top, wide, high) in zip(rows.ids.tolist(), rows.boxes.tolist(), strict=True):
        colour = colour_of(identity)
        pen.rectangle((left, top, left + max(wide, 0), top + max(high, 0)), outline=colour, width=width)
        label = str(identity)
        box = pen.textbbox((left + 2, top + 1), label)
        pen.rectangle((left, top, box[2] + 2, box[3] + 2), fill=colour)
        pen.text((left + 2, top + 1), label, fill="white")


def _write_gif(target: Path, pictures: Iterator[Any], total: int, frame_rate: float) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    small = []
    for picture in track(pictures, "drawing", total):
        picture.thumbnail((_GIF_SIDE, _GIF_SIDE))
        small.append(picture.quantize(128))
    small[0].save(
        target,
        save_all=True,
        append_images=small[1:],
        duration=max(20, round(1000 / max(frame_rate, 1e-3))),
        loop=0,
        optimize=True,
    )

"""Pictures of Pillow, frame after frame, to a video file, a GIF, or a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.atomic import replacing_file
from mambasdk.errors import InvalidArgumentError
from mambasdk.video import require_av
from mambasdk_tracking.video import INSTALL_AV

_GIF_SIDE = 640  # longest side of a GIF, in pixels
_ENDINGS = (".mp4", ".mkv", ".mov", ".avi")

Write = Callable[[Path, Iterator[Any], float], None]


def writer_of(target: Path) -> Write:
    """What writes `target`, by its ending: (target, pictures, frames per second) -> None.

    A video file with the endings .mp4, .mkv, .mov and .avi; a GIF with .gif; without an ending a folder of 000001.jpg
    and so on. Raises InvalidArgumentError for other endings, MissingDependencyError for a video file without PyAV.
    """
    ending = target.suffix.lower()
    if ending in _ENDINGS:
        require_av("writing a video file", INSTALL_AV)
        return write_video
    if ending == ".gif":
        return write_gif
    if not ending or target.is_dir():
        return write_pictures
    raise InvalidArgumentError(
        "no ending of a video", where=str(target), expected=f"{', '.join(_ENDINGS)}, .gif, or a folder", got=ending
    )


def write_video(target: Path, pictures: Iterator[Any], frame_rate: float) -> None:
    """Encode pictures of one size: H.264 where PyAV has it, else MPEG-4. An odd side gets one more row or column."""
    av = require_av("writing a video file", INSTALL_AV)
    codec, options = ("libx264", {"crf": "23"}) if "libx264" in av.codecs_available else ("mpeg4", {"q": "4"})
    rate = Fraction(max(frame_rate, 1e-3)).limit_denominator(1001)
    with replacing_file(target) as partial, av.open(os.fspath(partial), "w", format=_muxer(target)) as container:
        stream = None
        for picture in pictures:
            pixels = np.asarray(picture)  # (H, W, 3)
            height, width = pixels.shape[:2]
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.pix_fmt = "yuv420p"
                stream.height, stream.width = even.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def write_gif(target: Path, pictures: Iterator[Any], frame_rate: float) -> None:
    """An endless GIF of at most 640 pixels a side."""
    small = []
    for picture in pictures:
        picture.thumbnail((_GIF_SIDE, _GIF_SIDE))
        small.append(picture.quantize(128))
    with replacing_file(target) as partial:
        small[0].save(
            partial,
            format="GIF",
            save_all=True,
            append_images=small[1:],
            duration=max(20, round(1000 / max(frame_rate, 1e-3))),
            loop=0,
            optimize=True,
        )


def write_pictures(target: Path, pictures: Iterator[Any], frame_rate: float) -> None:
    """A folder of JPEG files."""
    target.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, 1):
        picture.save(target / f"{number:06}.jpg", quality=90)


def _muxer(target: Path) -> str:
    return {".mkv": "matroska"}.get(target.suffix.lower(), target.suffix.lower()[1:])

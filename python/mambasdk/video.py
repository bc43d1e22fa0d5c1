"""Frames of video files, for the plugins that read them. Needs PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError, require_module

_FRAME_RATE = 30.0  # of files that do not say theirs
_COMMAND = "pip install av"


class VideoFrame:
    """A frame, turned upright as its file says. number: from 1. where: its name in errors."""

    def __init__(self, frame: Any, number: int, where: str) -> None:
        self.number = number
        self.where = where
        self._frame = frame
        self._turns = round(frame.rotation / 90) % 4

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = self._frame.width, self._frame.height
        return (height, width) if self._turns % 2 else (width, height)

    def data(self) -> npt.NDArray[np.uint8]:
        """Pixels, uint8 (H, W, 3), RGB."""
        pixels = self._frame.to_ndarray(format="rgb24")  # (H, W, 3)
        return np.ascontiguousarray(np.rot90(pixels, self._turns))


class VideoFile:
    """A video file that can be read as often as one likes: MP4, Matroska, WebM, AVI, GIF and what else FFmpeg reads.

    name: of the file, without its ending. size: width and height of the first frame. frame_rate: a second. length: how
    many frames the file says that it has, None where it says nothing.
    """

    def __init__(self, path: str | os.PathLike[str], *, command: str = _COMMAND) -> None:
        """command: the line that installs PyAV.

        Raises MissingDependencyError without PyAV, and InvalidArgumentError for a file that is no video, or one without
        a frame.
        """
        self._av = require_av("reading a video file", command)
        self._path = Path(path)
        self.name = self._path.stem
        with self._open() as container:
            stream = self._stream(container)
            rate = stream.average_rate or stream.guessed_rate
            self.frame_rate = float(rate) if rate else _FRAME_RATE
            length = stream.frames
            if not length and stream.duration and stream.time_base and rate:
                length = round(stream.duration * stream.time_base * rate)
            self.length: int | None = length or None
        first = next(self.frames(), None)
        if first is None:
            raise InvalidArgumentError(
                "no frames", where=str(path), expected="a video with at least one frame that can be decoded"
            )
        self.size = first.size

    def frames(self) -> Iterator[VideoFrame]:
        """All frames in order, decoded one after another and not kept; InvalidArgumentError names a damaged one."""
        with self._open() as container:
            stream = self._stream(container)
            stream.thread_type = "AUTO"
            frames = container.decode(stream)
            number = 0
            while True:
                try:
                    frame = next(frames, None)
                except self._av.FFmpegError as error:
                    raise InvalidArgumentError(
                        f"frame {number + 1} cannot be decoded: {error.strerror}",
                        where=str(self._path),
                        way_out=f"the {number} before it can be read" if number else "make the file anew",
                    ) from error
                if frame is None:
                    return
                number += 1
                yield VideoFrame(frame, number, f"{self._path}: frame {number}")

    def _open(self) -> Any:
        try:
            return self._av.open(os.fspath(self._path))
        except (OSError, ValueError, self._av.FFmpegError) as error:
            raise InvalidArgumentError(
                f"no video that can be read: {getattr(error, 'strerror', None) or error}", where=str(self._path)
            ) from error

    def _stream(self, container: Any) -> Any:
        if not container.streams.video:
            raise InvalidArgumentError(
                "it has no pictures",
                where=str(self._path),
                expected="a video stream",
                got=", ".join(sorted({stream.type for stream in container.streams})) or "nothing",
            )
        return container.streams.video[0]


def require_av(what: str, command: str = _COMMAND) -> ModuleType:
    """PyAV, for `what`; MissingDependencyError has the command that installs it."""
    return require_module("av", what, command)

"""Frames of video files, for `mambasdk predict`. Needs PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError, require_module


def read_frames(path: str | os.PathLike[str]) -> Iterator[npt.NDArray[np.uint8]]:
    """The frames of a video file in order, uint8 (H, W, 3), RGB, turned upright as the file says.

    Raises MissingDependencyError without PyAV, InvalidArgumentError for a file that is no video, or a damaged frame.
    """
    av: Any = require_module("av", "reading a video file", "pip install 'mambasdk-vision[video]'")
    where = os.fspath(path)
    if not Path(path).is_file():
        raise InvalidArgumentError("cannot be read: no such file", where=where)
    number = 0
    try:
        with av.open(where) as container:
            if not container.streams.video:
                raise InvalidArgumentError("it has no pictures", where=where, expected="a video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                pixels = frame.to_ndarray(format="rgb24")  # (H, W, 3)
                yield np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
                number += 1
    except (OSError, ValueError, av.FFmpegError) as error:
        if isinstance(error, InvalidArgumentError):
            raise
        reason = getattr(error, "strerror", None) or error
        what = f"frame {number} cannot be decoded" if number else "no video that can be read"
        raise InvalidArgumentError(f"{what}: {reason}", where=where) from error

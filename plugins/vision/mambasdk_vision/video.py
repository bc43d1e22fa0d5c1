"""Frames of video files, for `mambasdk predict`. Needs PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.video import VideoFile


def read_frames(path: str | os.PathLike[str]) -> Iterator[npt.NDArray[np.uint8]]:
    """The frames of a video file in order, uint8 (H, W, 3), RGB, turned upright as the file says.

    Raises the errors of VideoFile, and InvalidArgumentError where there is no such file.
    """
    if not Path(path).is_file():
        raise InvalidArgumentError("cannot be read: no such file", where=os.fspath(path))
    for frame in VideoFile(path, command="pip install 'mambasdk-vision[video]'").frames():
        yield frame.data()

"""Frames of a video: of a video file, which needs PyAV, or of a folder of pictures."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mambasdk import video
from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk_tracking.mot import read_info

PICTURES = (".jpg", ".jpeg", ".png")
_FRAME_RATE = 30.0  # of pictures
INSTALL_AV = (
    "pip install 'mambasdk-tracking[video]'; or do without: a folder of pictures, one a frame "
    "(ffmpeg -i VIDEO FOLDER/%06d.png), is read and written too"
)
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_ORIENTATION = 0x0112


class Frame(Protocol):
    """One frame. number: from 1. where: its name in errors."""

    number: int
    where: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""

    def data(self) -> bytes | NDArray[np.uint8]:
        """What a pipeline takes: the picture's file as bytes, or pixels, uint8 (H, W, 3), RGB."""

    def picture(self) -> Any:
        """An RGB picture of Pillow, upright."""


class Video(Protocol):
    """A video that can be read as often as one likes: name, size (width, height), frames per second.

    length: how many frames there are; of a file what it says, None where it says nothing.
    """

    name: str
    size: tuple[int, int]
    frame_rate: float
    length: int | None

    def frames(self) -> Iterator[Frame]:
        """All frames in order. Raises InvalidArgumentError for one that is damaged or of another size."""


def open_video(path: str | os.PathLike[str]) -> Video:
    """The frames of a video file, or of a folder of pictures, sorted by the numbers and letters of their names.

    Raises InvalidArgumentError where there are no frames, or the file is no video, and MissingDependencyError for a
    file without PyAV, for a folder without Pillow.
    """
    place = Path(path)
    if not place.exists():
        raise InvalidArgumentError("no such file or folder", where=str(path), expected="a video, or a folder of frames")
    return PictureFolder(place) if place.is_dir() else VideoFile(place)


def frame_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures of a video's folder (`img1` in it, where there is one), sorted by name: 2.png before 10.png.

    Raises InvalidArgumentError where there is none.
    """
    place = Path(folder)
    place = place / "img1" if (place / "img1").is_dir() else place
    found = [path for path in place.glob("*") if path.suffix.lower() in PICTURES] if place.is_dir() else []
    if not found:
        raise InvalidArgumentError("no frames", where=str(place), expected=f"pictures: {', '.join(PICTURES)}")
    return sorted(found, key=lambda path: (_numbered(path.name), path.name))


class PictureFolder:
    """A folder of pictures, one a frame; that of MOTChallenge has them in `img1`, and says the rate in seqinfo.ini."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        _require_pillow()
        place = Path(folder).resolve()
        self._files = frame_files(place)
        self._folder = place.parent if place.name == "img1" else place
        self.name = self._folder.name
        self.length: int | None = len(self._files)
        known = (self._folder / "seqinfo.ini").is_file()
        self.frame_rate = read_info(self._folder).frame_rate if known else _FRAME_RATE
        self.size = _PictureFile(self._files[0], 1).size

    def frames(self) -> Iterator[Frame]:
        """Pictures are opened when they are asked for."""
        return (_PictureFile(path, number, self.size) for number, path in enumerate(self._files, 1))


class _PictureFile:
    """The frame that a picture is; expected: the size that it must have."""

    def __init__(self, path: Path, number: int, expected: tuple[int, int] | None = None) -> None:
        self.number = number
        self.where = str(path)
        self._path = path
        self._expected = expected

    @property
    def size(self) -> tuple[int, int]:
        return self._opened()[1]

    def data(self) -> bytes:
        return self._opened()[0]

    def picture(self) -> Any:
        from PIL import Image, ImageOps

        data, _ = self._opened()
        try:
            with Image.open(io.BytesIO(data)) as file:
                return ImageOps.exif_transpose(file).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise InvalidArgumentError(f"cannot be read: {error}", where=self.where) from error

    def _opened(self) -> tuple[bytes, tuple[int, int]]:
        """The file's bytes, and the size of the upright picture."""
        from PIL import Image

        try:
            data = self._path.read_bytes()
            with Image.open(io.BytesIO(data)) as file:
                width, height = file.size
                # Of a PNG that does not begin with EXIF data, getexif would decode the pixels.
                said = file.format != "PNG" or "exif" in file.info
                turned = said and file.getexif().get(_ORIENTATION) in _TURNED
        except (OSError, ValueError, SyntaxError) as error:
            raise InvalidArgumentError(f"cannot be read: {error}", where=self.where) from error
        size = (height, width) if turned else (width, height)
        if self._expected is not None:
            check_size(self.where, size, self._expected)
        return data, size


class VideoFile:
    """A video file, read by PyAV: MP4, Matroska, WebM, AVI, GIF and whatever else FFmpeg reads."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = video.VideoFile(path, command=INSTALL_AV)
        self.name, self.size = self._file.name, self._file.size
        self.frame_rate, self.length = self._file.frame_rate, self._file.length

    def frames(self) -> Iterator[Frame]:
        """Frames are decoded one after another, and not kept."""
        for frame in self._file.frames():
            check_size(frame.where, frame.size, self.size)
            yield _DecodedFrame(frame)


class _DecodedFrame:
    """A frame of a file, as a picture too."""

    def __init__(self, frame: video.VideoFrame) -> None:
        self.number, self.where, self.size = frame.number, frame.where, frame.size
        self.data = frame.data

    def picture(self) -> Any:
        from PIL import Image

        return Image.fromarray(self.data())


def check_size(where: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    """Raises InvalidArgumentError where a frame has another size than the first one."""
    if size != expected:
        raise InvalidArgumentError(
            "the frames change their size", where=where, expected=f"{expected[0]}x{expected[1]}, as the first frame",
            got=f"{size[0]}x{size[1]}", way_out="track the parts of each size by themselves",
        )  # fmt: skip


def _require_pillow() -> None:
    require_module("PIL", "reading a folder of pictures", "pip install 'mambasdk-tracking[video]'")


def _numbered(name: str) -> list[tuple[int, str]]:
    """A key that sorts digits as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]

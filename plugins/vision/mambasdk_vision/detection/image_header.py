"""Height and width of a PNG or JPEG file from its first bytes, as it is seen (EXIF's orientation undone). No torch."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
# Markers of a JPEG frame: all of 0xC0 to 0xCF but tables, arithmetic conditioning and the reserved one.
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ORIENTATION = 0x0112


def read_size(path: Path) -> tuple[int, int]:
    """(height, width). Raises ValueError for another format or a damaged head, OSError as reading does."""
    with path.open("rb") as file:
        return _size(file)


def size_of(data: bytes) -> tuple[int, int]:
    """The same of a file's bytes."""
    return _size(io.BytesIO(data))


def _size(file: BinaryIO) -> tuple[int, int]:
    head = file.read(24)
    if head.startswith(_PNG) and head[12:16] == b"IHDR" and len(head) == 24:
        width, height = struct.unpack(">II", head[16:24])
        size, turned = (height, width), _png_turned(file)
    elif head.startswith(b"\xff\xd8"):
        size, turned = _jpeg(file)
    else:
        raise ValueError("neither PNG nor JPEG")
    if min(size) < 1:
        raise ValueError("it has no pixels")
    return (size[1], size[0]) if turned else size


def _png_turned(file: BinaryIO) -> bool:
    """Whether an eXIf chunk before the pixels exchanges the axes."""
    file.seek(33)  # after IHDR
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (b"IDAT", b"IEND"):
            return False
        if name == b"eXIf":
            return _exchanges_axes(file.read(min(length, 1 << 16)))
        file.seek(length + 4, 1)
    return False


def _jpeg(file: BinaryIO) -> tuple[tuple[int, int], bool]:
    file.seek(2)
    turned = False
    while True:
        byte = file.read(1)
        while byte == b"\xff":  # fill bytes before a marker
            marker = file.read(1)
            if marker != b"\xff":
                break
        else:
            raise ValueError("the JPEG file has no frame")
        head = file.read(2)
        if not marker or len(head) < 2:
            raise ValueError("the JPEG file ends early")
        length = struct.unpack(">H", head)[0] - 2
        if marker[0] in _FRAMES:
            content = file.read(5)
            if len(content) < 5:
                raise ValueError("the JPEG file ends early")
            height, width = struct.unpack(">HH", content[1:])
            return (height, width), turned
        if marker[0] == 0xE1:
            content = file.read(max(length, 0))
            if content.startswith(b"Exif\0\0"):
                turned = _exchanges_axes(content[6:])
        else:
            file.seek(max(length, 0), 1)


def _exchanges_axes(tiff: bytes) -> bool:
    """Whether the orientation (1 to 8) is one of 5 to 8."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return False
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for index in range(entries):
            tag, kind = struct.unpack_from(order + "HH", tiff, start + 2 + 12 * index)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + "H", tiff, start + 10 + 12 * index)
                return bool(kind == 3 and 5 <= value <= 8)
    except struct.error:
        return False
    return False

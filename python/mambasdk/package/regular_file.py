"""Files of a package: regular ones inside its folder, as in `runtime/package/package.cpp`."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from mambasdk.errors import PackageError


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe is not waited for. Raises PackageError, or FileNotFoundError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:  # a socket cannot be opened at all
        raise PackageError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PackageError("is no regular file", where=str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; raises PackageError, or FileNotFoundError."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise PackageError(f"larger than {limit} bytes", where=str(path))
    return data


def check_inside(folder: Path, name: str) -> os.stat_result:
    """The status of file `name` of the package `folder`.

    Raises PackageError where it is missing, no regular file, or a link that leaves the folder.
    """
    path = folder / name
    try:
        status = path.stat()
        inside = path.resolve(strict=True).is_relative_to(folder.resolve())
    except OSError:
        raise PackageError(f"file {name} is missing", where=str(folder)) from None
    if not inside or not stat.S_ISREG(status.st_mode):
        raise PackageError(f"file {name} is no regular file inside the package", where=str(folder))
    return status

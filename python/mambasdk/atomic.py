"""Files and folders that are replaced whole or not at all: every writer of the SDK goes through here.

What is written lies beside its target under a name of its own (`.NAME.<12 hex digits>.partial`) until it is complete
and on the disk; then one rename puts it in place. The writer holds a lock on it, so the next writer of the same target
can tell what a dead one left behind, and removes that. `runtime/package/atomic_write.cpp` does the same in C++.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_NAME_LIMIT = 180  # of the target's name within a temporary one; file systems allow 255 bytes


@contextlib.contextmanager
def replacing_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives the path of an empty file to write; when the block ends well, that file takes the place of `path`.

    Missing parent folders are made, links are followed, the permissions of a file that is there are kept. After an
    exception, a crash or a power cut `path` is as before, or holds all of the new content. A device or pipe is written
    to directly. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    if mode is not None and not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        yield target
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    partial, lock = _create(target, folder=False)
    try:
        if mode is not None:
            os.fchmod(lock, stat.S_IMODE(mode))
        yield partial
        _sync_file(partial)
        os.replace(partial, target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)
        os.close(lock)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the content of `path` by `data`, whole or not at all; raises OSError."""
    with replacing_file(path) as partial:
        partial.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str], may_replace: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Gives an empty folder to fill; when the block ends well, it takes the place of `path` in one step.

    may_replace: asked before a folder with something in it is replaced; it raises where that must not be. None: such a
    folder is never replaced (FileExistsError). Where the system cannot exchange two names in one step, a crash may
    leave the old folder under `.NAME.*.previous`; the next writer puts it back. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    work, lock = _create(target, folder=True)
    try:
        yield work
        sync_tree(work)
        _put_in_place(work, target, may_replace)
        sync_folder(target.parent)
    finally:
        # After an exchange this is the old folder.
        shutil.rmtree(work, ignore_errors=True)
        os.close(lock)


def sync_tree(folder: Path) -> None:
    """Bring the files of a folder, and the folders in it, to the disk."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync_file(Path(parent, name))
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot
            raise
    finally:
        os.close(descriptor)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _stem(target: Path) -> str:
    return target.name[:_NAME_LIMIT]


def _create(target: Path, *, folder: bool) -> tuple[Path, int]:
    """A new file or folder beside the target, and a descriptor that holds the lock on it.

    Its name keeps the target's ending: some writers go by it.
    """
    while True:
        path = target.with_name(f".{_stem(target)}.{secrets.token_hex(6)}.partial{'' if folder else target.suffix}")
        try:
            if folder:
                path.mkdir(0o755)
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        except FileNotFoundError:
            if not target.parent.is_dir():
                raise
            continue  # swept between the two calls
        with contextlib.suppress(OSError):  # without locks nobody sweeps either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.lexists(path):
            return path, descriptor
        os.close(descriptor)  # swept before it was locked


def _sweep(target: Path) -> None:
    """Remove what dead writers of this target left; put an old folder back that one of them had moved aside."""
    ending = rf"(?P<kind>partial|previous)({re.escape(target.suffix)})?"
    pattern = re.compile(rf"\.{re.escape(_stem(target))}\.[0-9a-f]{{12}}\.{ending}")
    for path in sorted(target.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if match["kind"] == "previous" and not os.path.lexists(target):
                os.rename(path, target)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        except OSError:
            pass  # its writer lives, or another one sweeps
        finally:
            os.close(descriptor)


def _put_in_place(work: Path, target: Path, may_replace: Callable[[Path], None] | None) -> None:
    try:
        os.rename(work, target)  # there is nothing, or an empty folder
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if may_replace is None:
            raise
    may_replace(target)
    if not exchange(work, target):
        _replace_in_two_steps(work, target)


def exchange(first: Path, second: Path) -> bool:
    """Let two names change places in one step; False where the system or the file system cannot."""
    function, arguments = _exchange_call(os.fsencode(first), os.fsencode(second))
    if function is None:
        return False
    if function(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(second))


def _exchange_call(first: bytes, second: bytes) -> tuple[ctypes._NamedFuncPointer | None, tuple[object, ...]]:
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        return getattr(library, "renamex_np", None), (first, second, ctypes.c_uint(2))  # RENAME_SWAP
    here = ctypes.c_int(-100)  # AT_FDCWD
    return getattr(library, "renameat2", None), (here, first, here, second, ctypes.c_uint(2))  # RENAME_EXCHANGE


def _replace_in_two_steps(work: Path, target: Path) -> None:
    aside = target.with_name(f".{_stem(target)}.{secrets.token_hex(6)}.previous")
    lock = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(target, aside)
        try:
            os.rename(work, target)
        except BaseException:
            os.rename(aside, target)
            raise
        sync_folder(target.parent)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        os.close(lock)

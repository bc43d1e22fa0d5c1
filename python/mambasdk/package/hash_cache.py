"""What was hashed before: a file whose place, size, times and inode are as they were then is not read again.

One small file for each, in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`), shared with the C++ runtime
(`runtime/package/hash_cache.cpp`): its name is the first half of the SHA-256 of the file's real path; its content is
`1 DEVICE INODE SIZE MTIME CTIME SHA256` and a line feed, times in nanoseconds. A cache that cannot be read or written
is as good as an empty one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from pathlib import Path

SMALLEST = 1 << 20  # smaller files are hashed faster than they are looked up
_SETTLED = 2_000_000_000  # ns: a file changed later than this before now may change again within one tick of its clock


def recall(path: Path, status: os.stat_result) -> str | None:
    """The SHA-256 that the file had when it was hashed in this very state; None where that is not known."""
    if status.st_size < SMALLEST:
        return None
    try:
        line = _entry(path).read_bytes()[:400].decode("ascii")
    except (OSError, ValueError, RuntimeError):
        return None
    known = _state(status)
    return line[len(known) : -1] if line.startswith(known) and line.endswith("\n") else None


def remember(path: Path, status: os.stat_result, sha256: str) -> None:
    """Note the hash of the file in the state `status`, which it must have had before it was read."""
    if status.st_size < SMALLEST or time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED:
        return
    with contextlib.suppress(OSError, RuntimeError):
        entry = _entry(path)
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not on the disk before its name, which is no harm: a line that is not whole is not used.
        partial = entry.with_name(f"{entry.name}.{secrets.token_hex(6)}")
        partial.write_text(f"{_state(status)}{sha256}\n", "ascii")
        os.replace(partial, entry)


def _entry(path: Path) -> Path:
    root = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(root) if root.startswith("/") else Path.home() / ".cache"
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    return folder / "mambasdk" / "hashes" / name


def _state(status: os.stat_result) -> str:
    return f"1 {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} "

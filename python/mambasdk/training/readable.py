"""What of the data cannot be used is found before training starts, all of it, and named."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track

_NAMED = 20


def add_skip_bad_argument(group: argparse._ArgumentGroup) -> None:
    """Add `--skip-bad`."""
    group.add_argument("--skip-bad", action="store_true", help="leave out files that cannot be read, and name them")


def readable(files: Sequence[Path], read: Callable[[int], object], *, skip_bad: bool, what: str) -> list[int]:
    """Indices of the files that `read(index)` reads without an error; what: of the files, in plural, "images".

    The others are named on stderr where `skip_bad` is set (the first twenty, and how many there are); else they are an
    InvalidArgumentError that names all of them. None left is an error too.
    """
    good: list[int] = []
    bad: list[str] = []
    for index in track(range(len(files)), f"checking {what}", len(files)):
        try:
            read(index)
        except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
            reason = str(error).removeprefix(f"{files[index]}: ")
            bad.append(f"{files[index]}: {reason}")
        else:
            good.append(index)
    leave_out(bad, len(files), what, "cannot be read", skip_bad=skip_bad)
    return good


def leave_out(bad: Sequence[str], count: int, what: str, fault: str, *, skip_bad: bool, where: str = "--data") -> None:
    """Name what is bad of `count` things: on stderr where `skip_bad` is set (the first twenty, and how many there are),
    else as an InvalidArgumentError that names all. That all are bad is an error too.

    bad: a line for each. what, fault: "images", "cannot be read". where: the argument that they are of.
    """
    if not bad:
        return
    if not skip_bad:
        raise InvalidArgumentError(
            f"{len(bad)} of {count} {what} {fault}:\n  " + "\n  ".join(bad) + "\n",
            where=where,
            way_out="mend or remove them, or pass --skip-bad to go on without them",
        )
    if len(bad) == count:
        raise InvalidArgumentError(f"all {count} {what} {fault}; the first: {bad[0]}", where=where)
    more = f"\n  and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    lines = "\n  ".join(bad[:_NAMED])
    print(f"left out {len(bad)} of {count} {what} that {fault}:\n  {lines}{more}", file=sys.stderr)

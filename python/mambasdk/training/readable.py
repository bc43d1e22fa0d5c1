"""Files that cannot be read are found before training starts, all of them, and named."""

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
    if bad and not skip_bad:
        raise InvalidArgumentError(
            f"{len(bad)} of {len(files)} {what} cannot be read:\n  " + "\n  ".join(bad) + "\n",
            where="--data",
            way_out="mend or remove them, or pass --skip-bad to go on without them",
        )
    if bad and not good:
        raise InvalidArgumentError(f"none of {len(files)} {what} can be read; the first: {bad[0]}", where="--data")
    if bad:
        more = f"\n  and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        lines = "\n  ".join(bad[:_NAMED])
        print(f"left out {len(bad)} of {len(files)} {what} that cannot be read:\n  {lines}{more}", file=sys.stderr)
    return good

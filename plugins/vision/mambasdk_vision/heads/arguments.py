"""Arguments that the heads of this plugin share."""

from __future__ import annotations

import argparse

from mambasdk.errors import InvalidArgumentError


def add_size_argument(group: argparse._ArgumentGroup) -> None:
    """Add `--size`."""
    group.add_argument("--size", type=int, nargs="+", metavar="PIXELS", help="side of the images, or height and width")


def size_of(args: argparse.Namespace) -> tuple[int, int] | None:
    """(height, width) that `--size` asks for, None where it is absent. Raises InvalidArgumentError."""
    if not args.size:
        return None
    if len(args.size) > 2 or min(args.size) < 1:
        raise InvalidArgumentError("bad --size", expected="one side, or height and width", got=args.size)
    return args.size[0], args.size[-1]


def add_engine_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--engine`."""
    parser.add_argument(
        "--engine",
        choices=("auto", "native", "aoti", "torch"),
        default="auto",
        help="of the package (default: native, or torch where the native engine lacks an operation)",
    )

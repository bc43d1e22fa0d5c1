"""`mambasdk evaluate PACKAGE --data PATH…`: the package's head measures it; metrics, tables, pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.command_line.arguments import add_device_arguments, set_threads
from mambasdk.command_line.heads import HeadCommand
from mambasdk.command_line.tables import format_rows, format_value
from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation
from mambasdk.plugins.interfaces import EvaluatingHead

_LONGEST_TABLE = 40  # rows on a screen


class EvaluateCommand(HeadCommand):
    """Common arguments; the rest is the head's."""

    verb = "evaluate"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """MODEL first: its head adds the rest."""
        parser.add_argument("model", metavar="package", help="a model package")
        parser.add_argument("--data", nargs="+", required=True, metavar="PATH", help="what to measure on, as for train")
        parser.add_argument("--plot", metavar="DIR", help="draw pictures into this folder")
        parser.add_argument("--batch", type=int, default=32, help="rows at a time (default: 32)")
        parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random (default: 0)")
        add_device_arguments(parser)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Measure, print, draw."""
        if args.batch < 1:
            raise InvalidArgumentError("bad --batch", expected="1 or more", got=args.batch)
        set_threads(args.threads)
        folder = None if args.plot is None else _folder(args.plot)
        head: EvaluatingHead = args.head
        evaluation = head.evaluate(args)
        pictures = {} if folder is None else _draw(evaluation, folder)
        if not args.json:
            _print(args.model, evaluation, pictures)
        return {"package": args.model, **evaluation.to_json(), "pictures": pictures}


def _folder(plot: str) -> Path:
    """The folder of `--plot`, made before anything is measured."""
    folder = Path(plot)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgumentError(f"cannot be made: {error.strerror or error}", where=f"--plot {plot}") from error
    return folder


def _draw(evaluation: Evaluation, folder: Path) -> dict[str, str]:
    pictures = {}
    for name, draw in evaluation.pictures.items():
        path = folder / f"{name}.png"
        draw(path)
        pictures[name] = str(path)
    return pictures


def _print(package: str, evaluation: Evaluation, pictures: Mapping[str, str]) -> None:
    shown = ", ".join(f"{format_value(value)} {name.replace('_', ' ')}" for name, value in evaluation.data.items())
    print(f"{package}: {shown}" if shown else package)
    width = max(map(len, evaluation.metrics), default=0)
    for name, value in evaluation.metrics.items():
        print(f"  {name:<{width}}  {format_value(value)}")
    for rows in evaluation.tables.values():
        print()
        print(format_rows(rows[:_LONGEST_TABLE]))
        if len(rows) > _LONGEST_TABLE:
            print(f"… and {len(rows) - _LONGEST_TABLE} more rows (--json has them all)")
    for path in pictures.values():
        print(f"picture: {path}")

"""`mambasdk predict PACKAGE FILE…`: the package's own pipeline on files, whatever its head is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.package.manifest import Manifest
from mambasdk.pipeline import load_pipeline
from mambasdk.progress import track


class PredictCommand:
    """Each file's bytes go to the package's processor; what its head says is printed."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Package, files, options of the head."""
        parser.add_argument("package", help="a model package")
        parser.add_argument("files", nargs="+", metavar="file", help="what the package's processor reads")
        parser.add_argument("--slot", help="the processor that gets the file, where the package has several")
        parser.add_argument("--top-k", type=int, help="how many labels, for heads that rank them")
        parser.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="an option of the head, for example score_threshold=0.5 (repeatable)",
        )
        parser.add_argument("--verify", action="store_true", help="check the SHA-256 of the package's files first")
        parser.add_argument(
            "--keep-state", action="store_true", help="carry states from file to file (default: each starts anew)"
        )

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Run every file; the first one that cannot be read or run ends the command."""
        slot = _slot(args.package, args.slot)
        options = _options(args)
        pipeline = load_pipeline(args.package, verify=args.verify)
        results = []
        for name in track(args.files, "predicting", len(args.files)):
            try:
                data = Path(name).read_bytes()
            except OSError as error:
                raise InvalidArgumentError(f"cannot be read: {error.strerror or error}", where=name) from error
            if not args.keep_state:
                pipeline.reset()
            try:
                made = pipeline.run({slot: data}, options or None)
            except (ValueError, LookupError, RuntimeError, TypeError) as error:
                raise InvalidArgumentError(str(error), where=name) from error
            results.append({"file": name, **_result(made)})
            if not args.json:
                _show(results[-1], titled=len(args.files) > 1)
        return {"package": args.package, "results": results}


def _slot(package: str, wanted: str | None) -> str:
    slots = list(Manifest.read(package).processors)
    if wanted is not None:
        if wanted not in slots:
            raise InvalidArgumentError("no such processor", where=package, expected=" or ".join(slots), got=wanted)
        return wanted
    if len(slots) != 1:
        raise InvalidArgumentError(
            f"it has {len(slots)} processors", where=package, expected="one", way_out="choose one with --slot"
        )
    return slots[0]


def _options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in args.option:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidArgumentError("bad --option", expected="NAME=VALUE", got=repr(text))
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    if args.top_k is not None:
        options["top_k"] = args.top_k
    return options


def _result(made: Mapping[str, Any]) -> dict[str, Any]:
    """What the head says; where it says nothing (or there is none), the shapes of its tensors."""
    said = made.get("json")
    if isinstance(said, dict):
        return said
    return {"tensors": [{"name": name, "dtype": str(t.dtype), "shape": list(t.shape)} for name, t in made.items()]}


def _show(result: Mapping[str, Any], *, titled: bool) -> None:
    if titled:
        print(f"{result['file']}:")
    for key, value in result.items():
        if key == "file":
            continue
        if isinstance(value, list) and all(isinstance(row, dict) for row in value):
            _show_table(key, value)
        else:
            print(value if key == "text" else f"{key}: {value}")


def _show_table(name: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        print(f"no {name}")
        return
    columns = list(rows[0])
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10 else f"{value:.1f}"
    if isinstance(value, list):
        return " ".join(_cell(item) for item in value)
    return str(value)

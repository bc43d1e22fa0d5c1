"""`mambasdk predict PACKAGE FILE…`: the package's own pipeline on files, whatever its head is."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.package.manifest import Manifest
from mambasdk.pipeline import load_pipeline
from mambasdk.plugins.host import get_host
from mambasdk.plugins.interfaces import DrawingHead
from mambasdk.plugins.specs import resolve
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

        parser.add_argument(
            "--plot",
            metavar="PNG_OR_FOLDER",
            help="draw each result: a .png for one file, otherwise a folder that gets one NAME.png for each file",
        )

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Run every file; the first one that cannot be read or run ends the command."""
        drawing = _Drawing(args.package, args.files, args.plot) if args.plot else None
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
            if drawing:
                results[-1]["plot"] = drawing.draw(name, results[-1])
            if not args.json:
                _show(results[-1], titled=len(args.files) > 1)
        return {"package": args.package, "results": results}


class _Drawing:
    """The pictures of `--plot`: which head draws, and into which file; both are known before anything is run."""

    def __init__(self, package: str, files: Sequence[str], plot: str) -> None:
        self._package = Path(package)
        self._head = _drawing_head(package)
        target = Path(plot)
        single = target.suffix.lower() == ".png" and not target.is_dir()
        if single and len(files) != 1:
            raise InvalidArgumentError(
                "one picture for several files", where=f"--plot {plot}", expected="a folder", got=f"{len(files)} files"
            )
        folder = target.parent if single else target
        self._pictures = dict.fromkeys(files, target) if single else _pictures(files, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgumentError(f"cannot be made: {error.strerror or error}", where=f"--plot {plot}") from error

    def draw(self, file: str, result: Mapping[str, Any]) -> str:
        """Draw one result; returns where."""
        out = self._pictures[file]
        self._head.draw(
            Path(file), {key: value for key, value in result.items() if key != "file"}, out, package=self._package
        )
        return str(out)


def _drawing_head(package: str) -> DrawingHead:
    name = Manifest.read(package).head
    if name is None:
        raise InvalidArgumentError("the package has no head, so nothing draws its results", where=f"--plot: {package}")
    heads = get_host().registrations.heads
    head = resolve(heads[name].implementation)() if name in heads else None
    if not isinstance(head, DrawingHead):
        able = "has no part in Python" if head is None else "draws nothing"
        way_out = "leave --plot out, or install the plugin that draws it"
        raise InvalidArgumentError(f"head {name} {able}", where=f"--plot: {package}", way_out=way_out)
    return head


def _pictures(files: Sequence[str], folder: Path) -> dict[str, Path]:
    """A picture for each file, named after it; a number tells apart those of one name."""
    pictures: dict[str, Path] = {}
    taken: set[str] = set()
    for file in files:
        if file in pictures:
            continue
        stem = Path(file).stem
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        name = stem if stem not in taken else next(name for name in numbered if name not in taken)
        taken.add(name)
        pictures[file] = folder / f"{name}.png"
    return pictures


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

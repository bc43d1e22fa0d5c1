"""`mambasdk predict PACKAGE FILE…`: the package's own pipeline on files, folders and texts, whatever its head is."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mambasdk.cli.predict_files import Input, Reader, find_files
from mambasdk.cli.predict_outputs import Outputs, python_head
from mambasdk.command_line.arguments import add_loading_arguments, check_package
from mambasdk.command_line.heads import HeadCommand
from mambasdk.command_line.tables import format_rows
from mambasdk.errors import InvalidArgumentError
from mambasdk.package.manifest import Manifest, is_package
from mambasdk.pipeline import load_pipeline
from mambasdk.plugins.interfaces import PredictingHead
from mambasdk.progress import track

_TEXT = "text"  # the slot of texts
_INPUT = "input"  # in a result: the text that was given itself


class PredictCommand(HeadCommand):
    """Each file goes to the package's processor; what its head says is printed, of a folder as one table."""

    verb = "predict"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Package, files, options of the head."""
        parser.add_argument("package", help="a model package")
        parser.add_argument(
            "files", nargs="*", metavar="file", help="what the package's processor reads; of a folder, all such files"
        )
        parser.add_argument(
            "--text", action="append", default=[], help="a text itself, for packages that read text (repeatable)"
        )
        parser.add_argument("--slot", help="the processor that gets the file, where the package has several")
        parser.add_argument("--top-k", type=int, help="how many labels, for heads that rank them")
        parser.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="an option of the head, for example score_threshold=0.5 (repeatable)",
        )
        parser.add_argument("--skip-bad", action="store_true", help="go on after a file that cannot be read or run")
        add_loading_arguments(parser)
        parser.add_argument(
            "--keep-state", action="store_true", help="carry states from file to file (default: each starts anew)"
        )

        parser.add_argument(
            "--plot",
            metavar="PNG_OR_FOLDER",
            help="draw each result: a .png for one file, otherwise a folder that gets one NAME.png for each file",
        )

    def add_head_arguments(self, parser: argparse.ArgumentParser, arguments: list[str]) -> None:
        """Those of the head of the package that the command line names."""
        package = next((argument for argument in arguments if is_package(argument)), None)
        head = None if package is None else python_head(package)
        if isinstance(head, PredictingHead):
            head.add_predict_arguments(parser)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Run every file; unless told to skip it, the first one that cannot be read or run ends the command."""
        check_package(args.package, "predict")
        slot = _slot(args.package, args.slot, args.text)
        reader = Reader(args.package, slot)
        files, folders = find_files(args.files, reader)
        texts = _texts(args, slot)
        outputs = Outputs(args, files, [name for name in files if reader.has_frames(name)])
        options = {**outputs.options, **_options(args)}
        if Manifest.read(args.package).executes_code and not args.allow_code:
            print(
                "the package's compiled code is not run without --allow-code: the model runs in PyTorch",
                file=sys.stderr,
            )
        pipeline = load_pipeline(args.package, verify=args.verify, allow_code=args.allow_code)
        results: list[dict[str, Any]] = []
        inputs = [Input(_INPUT, text, text.encode()) for text in texts]
        tabular = folders or bool(outputs.videos)
        for one in track(itertools.chain(inputs, reader.inputs(files)), "predicting", len(inputs) + len(files)):
            if not args.keep_state and not one.frame:
                pipeline.reset()
            try:
                results.append({**one.named(), **_predict(pipeline, slot, one, options)})
            except InvalidArgumentError as error:
                if not args.skip_bad:
                    raise
                results.append({**one.named(), "error": str(error)})
                continue
            if one.kind == "file":
                results[-1].update(outputs.write(one, results[-1]))
            if not args.json and not tabular:
                _show(results[-1], titled=len(inputs) + len(files) > 1)
        if not args.json and tabular:
            print(format_rows([_row(result) for result in results]))
        skipped = [result["error"] for result in results if "error" in result]
        for reason in skipped:
            print(f"skipped: {reason}", file=sys.stderr)
        if len(skipped) == len(results):
            raise InvalidArgumentError("nothing of this could be read and run", where="predict")
        return {"package": args.package, "results": results}


def _texts(args: argparse.Namespace, slot: str) -> list[str]:
    """The texts of the command line. Raises InvalidArgumentError where there is neither text nor file."""
    if args.text and slot != _TEXT:
        raise InvalidArgumentError("it reads no text", where=f"--text: {args.package}", expected=f"files for {slot}")
    if not args.text and not args.files:
        raise InvalidArgumentError("nothing to predict", where="predict", expected="files, folders or --text")
    texts: list[str] = args.text
    return texts


def _predict(pipeline: Any, slot: str, given: Input, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the head says of one file, frame or text. Raises InvalidArgumentError that names it."""
    data = given.read()
    try:
        return _result(pipeline.run({slot: data}, dict(options) or None))
    except (ValueError, LookupError, RuntimeError, TypeError) as error:
        raise InvalidArgumentError(str(error), where=given.where) from error


def _slot(package: str, wanted: str | None, texts: Sequence[str]) -> str:
    """The slot that is asked for, or the only one; of two alternatives that of the texts, or of the files."""
    entries = Manifest.read(package).processors
    slots = list(entries)
    if wanted is not None:
        if wanted not in slots:
            raise InvalidArgumentError("no such processor", where=package, expected=" or ".join(slots), got=wanted)
        return wanted
    others = {slot: entry["alternative_to"] for slot, entry in entries.items() if "alternative_to" in entry}
    if len(slots) == 2 and list(others.values()) == [slot for slot in slots if slot not in others]:
        return _TEXT if texts and _TEXT in slots else next(iter(others))
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


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result as one row: numbers and texts as they are; of ranked labels the best, of other lists their length."""
    row: dict[str, Any] = {}
    for key, value in result.items():
        if not isinstance(value, list):
            row[key] = " ".join(value.split()) if isinstance(value, str) else value
        elif value and isinstance(value[0], dict) and {"label", "score"} <= value[0].keys():
            row.update(label=value[0]["label"], score=value[0]["score"])
        else:
            row[key] = len(value)
    return row


def _show(result: Mapping[str, Any], *, titled: bool) -> None:
    if titled:
        print(f"{result.get('file', result.get(_INPUT))}:")
    for key, value in result.items():
        if key in ("file", _INPUT):
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

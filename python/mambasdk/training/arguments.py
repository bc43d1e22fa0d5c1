"""The arguments that every head's `mambasdk train` has, and what they ask for. Imports no torch."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import tempfile
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.package.manifest import is_package
from mambasdk.training.options import OPTIMIZERS, TrainingOptions

_STEPS = 1000
_CHECKPOINT_MINUTES = 5.0
_FIELDS = {field.name: field.default for field in dataclasses.fields(TrainingOptions)}
_FROM_OTHER_ARGUMENTS = ("seed", "autocast")  # --seed and --dtype of `mambasdk train`


def add_training_arguments(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add groups of arguments: end of the run, optimiser, evaluations; checkpoints, log, curve.

    defaults: other defaults of TrainingOptions' fields, for example `batch=32, lr=1e-3`; fields without an argument
    (final_lr, beta1, beta2) may be given too.
    """
    if unknown := sorted(set(defaults) - (set(_FIELDS) - set(_FROM_OTHER_ARGUMENTS))):
        raise InvalidArgumentError(f"no default can be set for {', '.join(unknown)}", where="add_training_arguments")
    values: dict[str, Any] = {**_FIELDS, **defaults}
    if "steps" not in defaults and "minutes" not in defaults:
        values["steps"] = _STEPS
    group = parser.add_argument_group("training")

    def add(name: str, kind: type, what: str) -> None:
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, type=kind, default=values[name], help=f"{what} (default: {values[name]})")

    end = " ".join(f"{values[name]} {name}" for name in ("steps", "minutes") if values[name] is not None)
    group.add_argument("--steps", type=int, help=f"end after so many steps (default of the end: {end})")
    group.add_argument("--minutes", type=float, help="end after so much time in steps")
    add("batch", int, "rows per step and process")
    add("lr", float, "peak learning rate")
    add("warmup", float, "share of the run for warm-up")
    add("weight_decay", float, "of matrices")
    add("clip", float, "largest gradient norm")
    group.add_argument(
        "--optimizer", choices=OPTIMIZERS, default=values["optimizer"], help=f"(default: {values['optimizer']})"
    )
    add("momentum", float, "of sgd, Nesterov's")
    add("ema", float, "decay of averaged weights, which the package gets; 0 for those of the last step")
    group.add_argument(
        "--freeze",
        nargs="+",
        metavar="N_OR_NAME",
        help="leave parts as they are: the first N layers, or what begins with NAME",
    )
    group.add_argument("--yes", action="store_true", help="start although the memory estimate exceeds the machine's")
    _add_evaluation_arguments(parser)
    _add_output_arguments(parser)
    parser.set_defaults(training_defaults=values)


def _add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("held-out metrics")
    group.add_argument(
        "--evaluate-every",
        type=int,
        default=0,
        metavar="STEPS",
        help="steps between evaluations (default: the end; with --best or --patience ten times in the run)",
    )
    group.add_argument(
        "--best",
        nargs="?",
        const="",
        metavar="METRIC",
        help="the package gets the weights of the best evaluation, by the head's own metric or this one",
    )
    group.add_argument(
        "--patience", type=int, default=0, metavar="N", help="end after N evaluations without a better one"
    )


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("checkpoints, log and curve")
    group.add_argument("--checkpoint", metavar="FILE", help="where checkpoints go (default: OUT.checkpoint)")
    group.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=_CHECKPOINT_MINUTES,
        metavar="N",
        help=f"time between checkpoints; 0 for the end alone (default: {_CHECKPOINT_MINUTES:g})",
    )
    group.add_argument("--checkpoint-every", type=int, default=0, metavar="STEPS", help="steps between checkpoints too")
    start = group.add_mutually_exclusive_group()
    start.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint, which must be there (without it: where there is one)",
    )
    start.add_argument("--restart", action="store_true", help="begin anew although there is a checkpoint")
    group.add_argument("--log", metavar="FILE", help="losses and metrics as CSV (default: OUT.csv)")
    group.add_argument("--tensorboard", metavar="DIR", help="write them for TensorBoard too")
    group.add_argument("--curve", metavar="FILE", help="write the loss curve as PNG")
    group.add_argument("--overwrite", action="store_true", help="replace a package that is there")


def options_from_arguments(args: argparse.Namespace) -> TrainingOptions:
    """The options that the arguments of `add_training_arguments`, `--seed` and `--dtype` ask for."""
    values = dict(args.training_defaults)
    for name in values:
        if name not in ("steps", "minutes", *_FROM_OTHER_ARGUMENTS) and hasattr(args, name):
            values[name] = getattr(args, name)
    if args.steps is not None or args.minutes is not None:
        values.update(steps=args.steps, minutes=args.minutes)
    values.update(seed=args.seed, autocast=None if args.dtype == "float32" else args.dtype)
    return TrainingOptions(**values)


def checkpoint_path(args: argparse.Namespace) -> Path:
    """Where the run's checkpoints go."""
    return Path(args.checkpoint or f"{Path(args.out)}.checkpoint")


def log_path(args: argparse.Namespace) -> Path:
    """Where the run's log goes."""
    return Path(args.log or f"{Path(args.out)}.csv")


def goes_on(args: argparse.Namespace) -> bool:
    """Whether the run begins from a checkpoint."""
    return not args.restart and checkpoint_path(args).is_file()


def is_taken(args: argparse.Namespace) -> bool:
    """Whether something is where the package is to be."""
    out = Path(args.out)
    return out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir())))


def check_output(args: argparse.Namespace) -> Path:
    """The package to write, `args.out`. Raises InvalidArgumentError before any work where something is in the way.

    What the run will write (package, checkpoint, log, curve) must be writable. A package whose own checkpoint is there
    passes: whether that run is finished is seen when the checkpoint is read.
    """
    out, checkpoint = Path(args.out), checkpoint_path(args)
    if args.resume and not checkpoint.is_file():
        raise InvalidArgumentError(
            f"no checkpoint {str(checkpoint)!r} to resume from", where="train", way_out=_checkpoints_near(checkpoint)
        )
    package = is_package(out)
    if is_taken(args) and not package:
        raise InvalidArgumentError(f"{out} exists and is no package", where="train", way_out="give another --out")
    if is_taken(args) and not args.overwrite and not goes_on(args):
        raise InvalidArgumentError(f"{out} exists", where="train", way_out="pass --overwrite or another --out")
    files = {"--out": out, "--checkpoint": checkpoint, "--log": log_path(args)}
    if args.curve:
        files["--curve"] = Path(args.curve)
    for flag, path in files.items():
        _check_writable(flag, path)
    return out


def _check_writable(flag: str, path: Path) -> None:
    """Make the folder of `path` and write there; for a file that is there, open it too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(bytes(1 << 16))
            probe.flush()
            os.fsync(probe.fileno())
        if flag != "--out" and path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if path.is_file() and not os.access(path, os.W_OK):
            raise PermissionError(0, "it is read-only")
    except OSError as error:
        raise InvalidArgumentError(
            f"cannot be written: {error.strerror or error}", where=f"{flag} {path}", way_out=f"give another {flag}"
        ) from error


def _checkpoints_near(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.name.endswith(".checkpoint"))
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.3)
    if near:
        return f"did you mean {' or '.join(str(path.parent / name) for name in near)}?"
    return "leave --resume out to begin anew"

"""The arguments that every head's `mambasdk train` has, and the run that they ask for. Imports no torch itself."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.training.options import TrainingOptions
from mambasdk.training.result import TrainingResult

if TYPE_CHECKING:
    from mambasdk.training.trainer import Trainer

_STEPS = 1000
_FIELDS = {field.name: field.default for field in dataclasses.fields(TrainingOptions)}
_FROM_OTHER_ARGUMENTS = ("seed", "autocast")  # --seed and --dtype of `mambasdk train`


def add_training_arguments(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add a group of arguments: end of the run, optimiser, evaluations, checkpoints, curve.

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
    add("batch", int, "rows per step")
    add("lr", float, "peak learning rate")
    add("warmup", float, "share of the run for warm-up")
    add("weight_decay", float, "of matrices")
    add("clip", float, "largest gradient norm")
    group.add_argument("--evaluate-every", type=int, default=0, help="steps between evaluations (default: the end)")
    group.add_argument("--checkpoint", metavar="FILE", help="where checkpoints go (default: OUT.checkpoint)")
    group.add_argument("--checkpoint-every", type=int, default=0, help="steps between checkpoints (default: none)")
    group.add_argument("--resume", action="store_true", help="go on from the checkpoint, where there is one")
    group.add_argument("--curve", metavar="FILE", help="write the loss curve as PNG")
    group.add_argument("--overwrite", action="store_true", help="replace a package that is there")
    parser.set_defaults(training_defaults=values)


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


def check_output(args: argparse.Namespace) -> Path:
    """The package to write, `args.out`; raises InvalidArgumentError before any work where it is in the way."""
    out = Path(args.out)
    if out.exists() and not (out.is_dir() and (args.overwrite or not any(out.iterdir()))):
        raise InvalidArgumentError(f"{out} exists", where="train", way_out="pass --overwrite or another --out")
    return out


def run_from_arguments(trainer: Trainer, args: argparse.Namespace) -> TrainingResult:
    """Resume where the arguments ask for it, run to the end, and evaluate there."""
    checkpoint = Path(args.checkpoint or f"{args.out}.checkpoint")
    if args.resume and checkpoint.is_file():
        trainer.resume(checkpoint)
    result = trainer.run(
        evaluate_every=args.evaluate_every, checkpoint=checkpoint, checkpoint_every=args.checkpoint_every
    )
    if not result.evaluations or result.evaluations[-1][0] != result.steps:
        trainer.evaluate()
    return result

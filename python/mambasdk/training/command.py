"""A training run as `mambasdk train` asks for it: announced, resumed, watched, saved, packaged. Needs torch."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mambasdk.errors import CheckpointError, InvalidArgumentError, MambaSDKError
from mambasdk.lowering import native_program
from mambasdk.lowering.exported import export_model
from mambasdk.package.manifest import Manifest
from mambasdk.package.writer import float32_twin, save_package, stored_tensors
from mambasdk.training import distributed
from mambasdk.training.announcement import announcement, size_text
from mambasdk.training.arguments import checkpoint_path, goes_on, is_taken, log_path
from mambasdk.training.best import Best, goal_of
from mambasdk.training.curve import write_curve
from mambasdk.training.interruption import Interruption, TrainingInterrupted
from mambasdk.training.log import CsvLog, Log, TensorBoardLog
from mambasdk.training.memory import available_memory, estimate
from mambasdk.training.result import TrainingResult
from mambasdk.training.trainer import Trainer

_EVALUATIONS = 10  # of a run that looks for its best weights
# Arguments that do not change what is learnt: those of the end, of files and of this process.
_NOT_OF_THE_RUN = {
    "steps", "minutes", "out", "checkpoint", "checkpoint_minutes", "checkpoint_every", "resume", "restart", "log",
    "tensorboard", "curve", "overwrite", "yes", "json", "debug", "device", "threads", "engine", "evaluate_every",
    "best", "patience", "head", "training_defaults", "top_k", "labels",
}  # fmt: skip


@dataclass
class Trained:
    """What `train_from_arguments` gave.

    metrics: of the weights in the package. best_step: where they are of, None for the end of the run. resumed_at: the
    step that a checkpoint was of. engine: of the package.
    """

    package: Path
    result: TrainingResult
    metrics: dict[str, float]
    engine: str
    best_step: int | None = None
    resumed_at: int | None = None
    files: dict[str, str] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """What every head's result has, as JSON data."""
        return {
            "package": str(self.package),
            "engine": self.engine,
            "steps": self.result.steps,
            "loss": self.result.losses[-1] if self.result.losses else None,
            "held_out": dict(self.metrics),
            "best_step": self.best_step,
            "resumed_at": self.resumed_at,
            **self.files,
        }


def train_from_arguments(
    trainer: Trainer,
    args: argparse.Namespace,
    *,
    processors: Mapping[str, Mapping[str, Any]] | None = None,
    head_options: Mapping[str, Any] | None = None,
    engine: str | None = None,
    curve: Mapping[str, Any] | None = None,
) -> Trained:
    """Do what the arguments of `add_training_arguments` ask for, after `check_output(args)`.

    processors, head_options, engine: of `save_package`; where the model turns out not to run on the engine the package
    is saved for Python alone. curve: keyword arguments of `write_curve` for `--curve`.
    A signal ends the run with TrainingInterrupted after a checkpoint. Of several processes rank 0 writes.
    """
    task = trainer.task
    out, checkpoint = Path(args.out), checkpoint_path(args)
    trainer.best = _best(args, getattr(task, "goals", {}))
    trainer.command = _command(args, task)
    resumed_at = _resume(trainer, args, checkpoint)
    if resumed_at is not None and is_taken(args) and not args.overwrite:
        if trainer.finished:
            _say(f"finished already: {_place(trainer)}; {out} is what it gave. More --steps with --overwrite train on, "
                 "--restart begins anew")  # fmt: skip
            best = trainer.best if trainer.best is not None and trainer.best.keep else None
            return Trained(
                out,
                trainer.result,
                dict(best.metrics) if best else trainer.result.metrics,
                str(Manifest.read(out).engine["name"]),
                best.step if best else None,
                resumed_at,
                {"checkpoint": str(checkpoint)},
            )
        raise InvalidArgumentError(
            f"{out} exists, and its run is at {_place(trainer)}", where="train", way_out="pass --overwrite to train on"
        )
    _announce(trainer, args)
    _check_space(trainer, out, checkpoint)
    engine = _possible_engine(trainer.model, engine)
    log: list[Log] = [CsvLog(log_path(args))]
    if args.tensorboard:
        log.append(TensorBoardLog(args.tensorboard))
    every = args.evaluate_every
    automatic = trainer.best is not None and not every
    with Interruption() as interruption, contextlib.ExitStack() as stack:
        for entry in log:
            stack.callback(entry.close)
        result = trainer.run(
            evaluate_every=every,
            evaluate_at=[(i + 1) / _EVALUATIONS for i in range(_EVALUATIONS - 1)] if automatic else (),
            checkpoint=checkpoint,
            checkpoint_every=args.checkpoint_every,
            checkpoint_minutes=args.checkpoint_minutes,
            log=log,
            stop=lambda: interruption.signal is not None,
        )
        if not trainer.finished:
            _interrupted(trainer, args, checkpoint, interruption.signal or 2)
        _save_checkpoint(trainer, checkpoint)
        if trainer.stopped_early and trainer.best is not None:
            _say(f"ended early: {trainer.best.patience} evaluations without a better {trainer.best.metric}")
        if not result.evaluations or result.evaluations[-1][0] != result.steps:
            metrics = trainer.evaluate()
            for entry in log if distributed.rank() == 0 else ():
                entry.evaluation(result, metrics)
            _save_checkpoint(trainer, checkpoint)
    metrics, best_step = result.metrics, None
    if trainer.best is not None and trainer.best.weights is not None:
        trainer.model.load_state_dict(trainer.best.weights)
        metrics, best_step = dict(trainer.best.metrics), trainer.best.step
        _say(f"the package gets the weights of step {best_step:,}, the best {trainer.best.metric}")
    elif trainer.average is not None:
        trainer.average.put(trainer.model)
    files = {"checkpoint": str(checkpoint), "log": str(log_path(args))}
    trained = Trained(out, result, metrics, engine or "native", best_step, resumed_at, files)
    if distributed.rank() == 0:
        trained.engine = _save(trainer, args, checkpoint, processors, head_options, engine)
        if args.curve:
            write_curve(args.curve, result, **{"unit": task.unit, **(curve or {})})
    return trained


def _best(args: argparse.Namespace, goals: Mapping[str, str]) -> Best | None:
    """What `--best` and `--patience` ask for."""
    if args.patience < 0:
        raise InvalidArgumentError("bad --patience", expected="0 or more", got=args.patience)
    if args.best is None and not args.patience:
        return None
    metric = args.best or next(iter(goals), None)
    if metric is None:
        raise InvalidArgumentError("the head names no metric", where="--best", way_out="give one: --best METRIC")
    if goals and metric not in goals:
        raise InvalidArgumentError("no such metric", where=f"--best {metric}", expected=" or ".join(goals))
    return Best(metric, goal_of(metric, goals), patience=args.patience, keep=args.best is not None)


def _command(args: argparse.Namespace, task: Any) -> dict[str, Any]:
    """What a repeated command must have in common with the checkpoint: model, data and the head's own arguments."""
    fields = {name: _plain(value) for name, value in vars(args).items() if name not in _NOT_OF_THE_RUN}
    for name in args.training_defaults:  # the Trainer compares its options itself
        fields.pop(name, None)
    fields["number of processes"] = distributed.world_size()
    if (data := getattr(task, "data", None)) is not None:
        fields["amount of data"] = data
    return {name: value for name, value in fields.items() if value is not None}


def _plain(value: Any) -> Any:
    """A value as a checkpoint can hold it."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def _resume(trainer: Trainer, args: argparse.Namespace, checkpoint: Path) -> int | None:
    if not goes_on(args):
        return None
    try:
        trainer.resume(checkpoint)
    except CheckpointError as error:
        if is_taken(args) and not args.overwrite:
            raise InvalidArgumentError(
                f"{args.out} exists and is of another run ({error})",
                where="train",
                way_out="give another --out, or --overwrite with --restart",
            ) from error
        if error.way_out:
            raise
        raise CheckpointError(
            str(error), way_out="--restart begins anew, another --out or --checkpoint keeps both"
        ) from error
    _say(f"resumed at step {trainer.result.steps:,} from {checkpoint}")
    return trainer.result.steps


def _place(trainer: Trainer) -> str:
    total = f" of {trainer.options.steps:,}" if trainer.options.steps else ""
    return f"step {trainer.result.steps:,}{total}"


def _announce(trainer: Trainer, args: argparse.Namespace) -> None:
    """Say what begins; refuse what does not fit."""
    options, model = trainer.options, trainer.model
    device = next(model.parameters()).device
    guess = estimate(model, trainer.task, options.batch, autocast=options.autocast is not None)
    steps_left = None if options.steps is None else max(options.steps - trainer.result.steps, 0)
    seconds = None if guess.seconds is None or steps_left is None else guess.seconds * steps_left
    if options.minutes is not None:
        limit = max(60 * options.minutes - trainer.result.seconds, 0)
        seconds = limit if seconds is None else min(seconds, limit)
    line = announcement(
        str(args.model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        memory=("" if guess.seconds is not None else "more than ") + size_text(guess.bytes),
        steps=options.steps,
        minutes=options.minutes,
        batch=options.batch,
        processes=distributed.world_size(),
        data=getattr(trainer.task, "data", None),
        device=str(device),
        threads=torch.get_num_threads(),
        dtype=options.autocast,
        seconds=seconds,
    )
    _say(line)
    free = available_memory(device)
    # Weights are there already; what comes is the rest.
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if free is None or args.yes or guess.bytes - weights <= free:
        return
    raise InvalidArgumentError(
        f"a step of {options.batch:,} rows takes about {size_text(guess.bytes)} of memory",
        where="train",
        expected=f"at most the {size_text(free)} that are free on {device}",
        way_out="give a smaller --batch, a smaller model, or start anyway with --yes",
    )


def _check_space(trainer: Trainer, out: Path, checkpoint: Path) -> None:
    """Raise InvalidArgumentError where package and checkpoint will not fit on their disks."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in trainer.model.parameters())
    copies = 4 if trainer.best is not None and trainer.best.keep else 3  # weights, two moments, the best weights
    copies += trainer.average is not None
    # A new checkpoint is whole before the old one goes.
    needs = {out.parent: weights, checkpoint.parent: 2 * copies * weights}
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, need in needs.items():
        disk = folder.stat().st_dev
        by_disk[disk] = folder, by_disk.get(disk, (folder, 0))[1] + need
    for folder, need in by_disk.values():
        free = shutil.disk_usage(folder).free
        if free < need:
            raise InvalidArgumentError(
                f"package and checkpoints take {size_text(need)}",
                where=str(folder),
                expected=f"at most the {size_text(free)} that are free on the disk",
                way_out="make room, or give --out and --checkpoint on another disk",
            )


def _possible_engine(model: Any, engine: str | None) -> str | None:
    """`engine`, tried on the untrained model; "torch" where the model does not run on it, which is said."""
    wanted = engine or "native"
    try:
        if wanted == "native":
            program = native_program(model)
            if program is None and engine is None:
                return None
            if program is None:
                raise MambaSDKError(f"{type(model).__name__} has no named inputs and outputs")
            names = stored_tensors(model, None)
            if absent := [name for name in program.weights if name not in names and name not in program.constants]:
                raise MambaSDKError(f"its program needs weights that the model lacks: {', '.join(absent[:4])}")
        elif wanted == "aoti":
            with torch.random.fork_rng():
                export_model(float32_twin(model, None))  # compiling it takes minutes, and fails more rarely
    except Exception as error:  # whatever a model's own lowering raises must not cost the run
        _say(f"warning: the package will run in Python alone (engine torch), not on {wanted}: {_reason(error)}")
        return "torch"
    return engine


def _save_checkpoint(trainer: Trainer, checkpoint: Path) -> bool:
    return distributed.rank() != 0 or trainer.try_save(checkpoint, _say)


def _interrupted(trainer: Trainer, args: argparse.Namespace, checkpoint: Path, number: int) -> None:
    """Save and raise TrainingInterrupted."""
    saved = _save_checkpoint(trainer, checkpoint)
    how = f"saved in {checkpoint}; the same command goes on from there" if saved else "NOT saved: see the warning above"
    raise TrainingInterrupted(f"interrupted at {_place(trainer)}, {how}", number)


def _save(
    trainer: Trainer,
    args: argparse.Namespace,
    checkpoint: Path,
    processors: Mapping[str, Mapping[str, Any]] | None,
    head_options: Mapping[str, Any] | None,
    engine: str | None,
) -> str:
    """Write the package, for Python alone where the engine fails; the engine that it has."""

    def write(name: str | None) -> str:
        manifest = save_package(
            trainer.model,
            args.out,
            processors=processors,
            head_options=head_options,
            engine=name,
            overwrite=args.overwrite,
        )
        return str(manifest.engine["name"])

    try:
        try:
            return write(engine)
        except OSError:
            raise
        except Exception as error:  # an export that fails after all
            if engine == "torch":
                raise
            _say(f"warning: saved for Python alone (engine torch): {_reason(error)}")
            return write("torch")
    except Exception as error:
        kept = f"the training is kept in {checkpoint}: mend this, and the same command writes the package"
        raise MambaSDKError(f"the package cannot be written: {_reason(error)}", where=args.out, way_out=kept) from error


def _reason(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, (MambaSDKError, OSError)) and text else f"{type(error).__name__}: {text}"


def _say(line: str) -> None:
    if distributed.rank() == 0:
        print(line, file=sys.stderr, flush=True)

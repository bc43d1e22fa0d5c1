"""What heads that train have in common: arguments, the run, the report. A head says what is trained and on what.

Imports no torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.training.arguments import add_training_arguments, check_output, options_from_arguments
from mambasdk.training.options import TrainingOptions
from mambasdk.training.task import Task

if TYPE_CHECKING:
    from torch import nn

    from mambasdk.training.command import Trained
    from mambasdk.training.trainer import Trainer


@dataclass
class TaskRun:
    """What a head trains, and what becomes of it.

    model, task: for the Trainer. processors, head_options, engine: of the package, as `save_package` takes them.
    curve: keyword arguments of `write_curve` for `--curve`. report: the head's own entries of the result, of what the
    run gave. held_out: one line about the held-out data, None for none. amount: what was trained on, in words; None:
    the run's units. options, trainer: where they are not those of the arguments, and no Trainer.
    """

    model: nn.Module
    task: Task
    processors: Mapping[str, Mapping[str, Any]] | None = None
    head_options: Mapping[str, Any] | None = None
    engine: str | None = None
    curve: Mapping[str, Any] = field(default_factory=dict)
    report: Callable[[Trained], Mapping[str, Any]] | None = None
    held_out: Callable[[Trained], str | None] | None = None
    amount: str | None = None
    options: TrainingOptions | None = None
    trainer: type[Trainer] | None = None


class TaskHead:
    """Base of a head that trains: a `mambasdk.plugins.TrainingHead`. A subclass has `add_data_arguments` and `prepare`.

    defaults: of the arguments of every training, such as {"batch": 32, "lr": 1e-3}; see `add_training_arguments`.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the head's own arguments: data, augmentation, what of the model they decide."""

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Read the data, make or load the model, and say what is trained. options: what the arguments ask for."""
        raise NotImplementedError

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The head's own arguments, then those of every training."""
        self.add_data_arguments(parser)
        add_training_arguments(parser, **self.defaults)

    def train(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Train and save a package; returns the report."""
        from mambasdk.training.command import train_from_arguments
        from mambasdk.training.trainer import Trainer

        out = check_output(args)
        options = options_from_arguments(args)
        run = self.prepare(args, options)
        if args.freeze:
            from mambasdk.training.freezing import freeze

            freeze(run.model, args.freeze)
        trained = train_from_arguments(
            (run.trainer or Trainer)(run.model, run.task, run.options or options),
            args,
            processors=run.processors,
            head_options=run.head_options,
            engine=run.engine,
            curve=run.curve,
        )
        parameters = sum(parameter.numel() for parameter in run.model.parameters())
        own = {} if run.report is None else run.report(trained)
        if not args.json:
            amount = run.amount or f"{trained.result.units:,} {run.task.unit}"
            print(f"{out}: {parameters:,} parameters, {trained.result.steps} steps, {amount}")
            if run.held_out is not None and (line := run.held_out(trained)) is not None:
                print(f"held out: {line}")
        return {**trained.report(), "parameters": parameters, **own}

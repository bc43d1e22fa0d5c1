"""The objects behind HeadSpec and CommandSpec: what the command line calls."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from mambasdk._core import Emitter, HeadModel
    from mambasdk.evaluation import Evaluation


@runtime_checkable
class Command(Protocol):
    """A subcommand of `mambasdk`."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments. `--json` and `--debug` are there already."""

    def run(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Do the work. Human text goes to stdout only where `args.json` is false.

        The mapping that comes back is printed as JSON under `--json`; key "exit_code" (int), when present and not zero,
        becomes the exit status.
        """


@runtime_checkable
class TrainingHead(Protocol):
    """A head whose families `mambasdk train` can train.

    `args.model` is a variant, a family or a package directory; `args.json` asks for no human text on stdout. The
    result's place is `args.out`; overrides are in `args.overrides` (dict), and there are `args.device`, `args.dtype`,
    `args.seed`. What comes back is printed as JSON under `--json`, as with Command.run.
    """

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the head's own arguments; `mambasdk.training.add_training_arguments` adds those that all heads have."""

    def train(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Train `args.model` and save the package in `args.out`."""


@runtime_checkable
class GeneratingHead(Protocol):
    """A head whose packages `mambasdk generate` can run; `args` as in TrainingHead.

    `args.verify` says which of the package's files are compared with the manifest's SHA-256 first: None those that
    changed since the last time, True all, False none.
    """

    def add_generate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the head's own arguments."""

    def generate(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Run the package `args.model` on what the arguments give."""


@runtime_checkable
class EvaluatingHead(Protocol):
    """A head whose packages `mambasdk evaluate` can measure.

    `args.model` is a package directory, `args.data` a list of paths; `args.device`, `args.dtype`, `args.seed` and
    `args.batch` (rows at a time) are there too. The command prints what comes back and draws its pictures.
    """

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the head's own arguments."""

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """Measure the package on the data."""


@runtime_checkable
class DrawingHead(Protocol):
    """A head whose results `mambasdk predict --plot` can draw. It has the name of the package's native head."""

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Draw what the package said about a file, as a PNG.

        file: what was read. result: what the native head said, as `mambasdk predict --json` prints it. out: the picture
        to write; its folder is there. package: the package's directory.
        """


@runtime_checkable
class PredictingHead(Protocol):
    """A head that adds arguments of its own to `mambasdk predict`, and may write files about the results."""

    def add_predict_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the head's own arguments."""

    def predict_options(self, args: argparse.Namespace, package: Path) -> Mapping[str, Any]:
        """Options of every run, as `--option` gives them; read before anything is run.

        package: the package's directory. Raises InvalidArgumentError for what cannot be used.
        """

    def save(self, args: argparse.Namespace, name: str, data: Any, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write what the arguments ask for about one result; entries to add to it, such as where that is.

        name: of the file without folder and ending, distinct among those of the command; of a frame with its number.
        data: what the processor got: the file's bytes, or an array. result: what the native head said.
        """


class ModelHead:
    """Base of heads that are written in Python: the head runs its model itself, as often as its task needs.

    A `PipelineHead` makes one for each pipeline. Where `run` raises, the pipeline takes the model's state back to where
    it was; what the head keeps of its own, it must leave as it was too.
    """

    def attach(self, model: HeadModel) -> None:
        """Look at the model, once, before the first run. Raises what makes the model unfit for the head."""

    def run(self, model: HeadModel, inputs: Mapping[str, Any], emit: Emitter) -> None:
        """One run of the pipeline.

        model: `run(inputs, outputs)` and `run_once(inputs)`, its state, names and shapes of what it takes and makes.
        inputs: arrays that the processors made, and those of the model's inputs that the caller gave; "options", a
        dict, where the run has any. emit: takes the result, `emit.json(...)` first of all.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """Forget earlier runs; the model's state is zero already."""


@runtime_checkable
class PipelineHead(Protocol):
    """A head that is the last part of a pipeline, where no native library brings one of its name."""

    def pipeline_head(self, options: Mapping[str, Any], directory: Path) -> ModelHead:
        """The head for one pipeline.

        options: the head's configuration, `head_options` of the manifest. directory: the package's. Raises
        InvalidArgumentError for an option that cannot be used.
        """


Head = TrainingHead | GeneratingHead | EvaluatingHead | DrawingHead | PredictingHead | PipelineHead
"""What a HeadSpec's implementation makes: at least one of the six abilities."""

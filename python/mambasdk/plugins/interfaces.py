"""The objects behind HeadSpec and CommandSpec: what the command line calls."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


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
    """A head whose packages `mambasdk generate` can run; `args` as in TrainingHead."""

    def add_generate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the head's own arguments."""

    def generate(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Run the package `args.model` on what the arguments give."""


@runtime_checkable
class DrawingHead(Protocol):
    """A head whose results `mambasdk predict --plot` can draw. It has the name of the package's native head."""

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Draw what the package said about a file, as a PNG.

        file: what was read. result: what the native head said, as `mambasdk predict --json` prints it. out: the picture
        to write; its folder is there. package: the package's directory.
        """


Head = TrainingHead | GeneratingHead | DrawingHead
"""What a HeadSpec's implementation makes: at least one of the three abilities."""

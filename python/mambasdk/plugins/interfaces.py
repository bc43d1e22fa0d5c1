"""The objects behind HeadSpec and CommandSpec: what the command line calls."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
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
class Head(Protocol):
    """What a family's models are trained and used for. `mambasdk train` and `mambasdk generate` hand over to it.

    `args.model` is a variant, a family or a package directory; `args.json` asks for no human text on stdout.
    `train` finds the result's place in `args.out`, overrides in `args.overrides` (dict), and `args.device`,
    `args.dtype`, `args.seed`. Results are printed as JSON under `--json`, as with Command.run.
    """

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the head's own arguments of `mambasdk train`."""

    def train(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Train `args.model` and save the package in `args.out`."""

    def add_generate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the head's own arguments of `mambasdk generate`."""

    def generate(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Run the package `args.model` on what the arguments give."""

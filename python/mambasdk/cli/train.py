"""`mambasdk train MODEL --out DIR`: the model's head trains it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.command_line.heads import HeadCommand
from mambasdk.command_line.training import add_training_arguments, run_training


class TrainCommand(HeadCommand):
    """Common arguments; the rest is the head's."""

    verb = "train"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Those of every training."""
        add_training_arguments(parser)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Train."""
        return run_training(args.head, args)

"""`mambasdk train MODEL --out DIR`: the model's head trains it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.cli.arguments import add_device_arguments, add_overrides, set_threads
from mambasdk.cli.heads import HeadCommand
from mambasdk.plugins.interfaces import TrainingHead


class TrainCommand(HeadCommand):
    """Common arguments; the rest is the head's."""

    verb = "train"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """MODEL first: its head adds the rest."""
        parser.add_argument("model", help="a variant, a family, or a package to go on from")
        parser.add_argument("--out", required=True, metavar="DIR", help="where the trained package goes")
        parser.add_argument("--seed", type=int, default=0, help="of initialisation and data order (default: 0)")
        add_overrides(parser)
        add_device_arguments(parser)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Hand over to the head."""
        set_threads(args.threads)
        head: TrainingHead = args.head
        return head.train(args)

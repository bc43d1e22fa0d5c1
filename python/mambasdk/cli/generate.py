"""`mambasdk generate PACKAGE`: the package's head runs it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.cli.arguments import add_device_arguments, set_threads
from mambasdk.cli.heads import HeadCommand
from mambasdk.plugins.interfaces import GeneratingHead


class GenerateCommand(HeadCommand):
    """Common arguments; the rest is the head's."""

    verb = "generate"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """MODEL first: its head adds the rest."""
        parser.add_argument("model", metavar="package", help="a model package")
        parser.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")
        add_device_arguments(parser)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Hand over to the head."""
        set_threads(args.threads)
        head: GeneratingHead = args.head
        return head.generate(args)

"""What every command that trains has: common arguments, and the head's training in one process or several."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Mapping
from typing import Any

from mambasdk.command_line.arguments import add_device_arguments, add_overrides, set_threads
from mambasdk.plugins.interfaces import TrainingHead
from mambasdk.training import distributed


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL first: its head adds the rest."""
    parser.add_argument("model", help="a variant, a family (its small default variant), or a package")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the trained package goes")
    parser.add_argument("--seed", type=int, default=0, help="of initialisation and data order (default: 0)")
    add_overrides(parser)
    add_device_arguments(parser)


def run_training(head: TrainingHead, args: argparse.Namespace) -> Mapping[str, Any] | None:
    """Hand over to the head; under torchrun the processes train together, and rank 0 reports."""
    set_threads(args.threads)
    if not distributed.launched():
        return head.train(args)
    args.device = distributed.start(args.device)
    try:
        with contextlib.ExitStack() as stack:
            if distributed.rank():
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            return head.train(args)
    finally:
        distributed.stop()

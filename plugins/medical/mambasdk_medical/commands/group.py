"""The command `mambasdk medical` and its subcommands, a module each."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module
from typing import Any

# Subcommand -> what it does. Modules have `add_arguments(parser)` and `run(args)`.
SUBCOMMANDS = {
    "plan": "look at a data set and write its plans",
    "preprocess": "crop, normalise and resample the training cases",
    "train": "train a model on prepared cases, as `mambasdk train` does",
    "predict": "write label maps for images",
    "evaluate": "score label maps against the truth",
    "import": "turn a result folder of nnU-Net into a package",
}


class MedicalCommand:
    """One subcommand for each step of nnU-Net's."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """A parser for each subcommand."""
        steps = parser.add_subparsers(dest="subcommand", required=True, metavar="STEP")
        for name, summary in SUBCOMMANDS.items():
            own = steps.add_parser(name, help=summary, description=summary)
            for flag, what in (("--json", "print the result as JSON"), ("--debug", "show the traceback of an error")):
                own.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=what)
            _module(name).add_arguments(own)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Do the step."""
        result: Mapping[str, Any] | None = _module(args.subcommand).run(args)
        return result


def _module(name: str) -> Any:
    return import_module(f"mambasdk_medical.commands.{name.replace('import', 'import_')}")

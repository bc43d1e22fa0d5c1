"""`mambasdk generate PACKAGE`: the package's head runs it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from typing import Any, TextIO, cast

from mambasdk.command_line.arguments import add_device_arguments, add_verify_arguments, set_threads
from mambasdk.command_line.heads import HeadCommand
from mambasdk.plugins.interfaces import GeneratingHead


class GenerateCommand(HeadCommand):
    """Common arguments; the rest is the head's."""

    verb = "generate"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """MODEL first: its head adds the rest."""
        parser.add_argument("model", metavar="package", help="a model package")
        parser.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")
        add_verify_arguments(parser)
        add_device_arguments(parser)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any] | None:
        """Hand over to the head."""
        set_threads(args.threads)
        head: GeneratingHead = args.head
        line = _Line(sys.stdout)
        try:
            with contextlib.redirect_stdout(cast("TextIO", line)):
                return head.generate(args)
        finally:
            if not args.json:
                line.end()


class _Line:
    """Standard output that knows whether it is inside a line: what follows a text cut short begins a new one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._inside = False

    def write(self, text: str) -> int:
        if text:
            self._inside = not text.endswith("\n")
        return self._stream.write(text)

    def end(self) -> None:
        """Complete the line."""
        if self._inside:
            self._stream.write("\n")
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

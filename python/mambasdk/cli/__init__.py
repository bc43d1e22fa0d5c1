"""The command `mambasdk`."""

from mambasdk.cli.command_line import main

__all__ = ["main"]

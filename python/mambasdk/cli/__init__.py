"""The command `mambasdk`."""

from mambasdk.cli.main import main

__all__ = ["main"]

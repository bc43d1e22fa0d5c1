"""The SDK's own commands, one module each. To run one from a program, see `mambasdk.command_line.main`."""

from mambasdk.command_line import main

__all__ = ["main"]

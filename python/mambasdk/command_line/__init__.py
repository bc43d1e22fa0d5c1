"""The command line in a program: `main` runs a command, the rest is what commands and heads of plugins share.

Imports no torch.
"""

from mambasdk.command_line.arguments import (
    DTYPES,
    add_device_arguments,
    add_loading_arguments,
    add_overrides,
    check_device,
    check_package,
    set_threads,
    torch_dtype,
)
from mambasdk.command_line.program import json_text, main
from mambasdk.command_line.tables import format_rows, format_value

__all__ = [
    "DTYPES",
    "add_device_arguments",
    "add_loading_arguments",
    "add_overrides",
    "check_device",
    "check_package",
    "format_rows",
    "format_value",
    "json_text",
    "main",
    "set_threads",
    "torch_dtype",
]

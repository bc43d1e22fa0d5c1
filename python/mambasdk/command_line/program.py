"""Entry point of `mambasdk`: finds the command, parses, runs, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 a check failed, 2 an error, 130 interrupted, 143 ended by SIGTERM.
A command's module is imported only when it is run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mambasdk._version import __version__
from mambasdk.command_line.arguments import check_device
from mambasdk.command_line.heads import HeadCommand
from mambasdk.errors import MambaSDKError, closest
from mambasdk.plugins.host import get_host
from mambasdk.plugins.interfaces import Command
from mambasdk.plugins.specs import CommandSpec, resolve
from mambasdk.progress import show_progress
from mambasdk.threads import wait_passively
from mambasdk.training import distributed

_ALLOCATION = re.compile(r"can't allocate memory|out of memory|std::bad_alloc|bad allocation", re.IGNORECASE)


def _builtin(name: str, summary: str) -> CommandSpec:
    module = {"import": "import_"}.get(name, name.replace("-", "_"))
    implementation = f"mambasdk.cli.{module}:{name.title().replace('-', '')}Command"
    return CommandSpec(name=name, summary=summary, implementation=implementation)


BUILTIN_COMMANDS = {
    spec.name: spec
    for spec in (
        _builtin("doctor", "show what is installed, what is wrong, and what to do about it"),
        _builtin("models", "list the models that can be built"),
        _builtin("plugins", "list the plugins, what they bring, and what was refused"),
        _builtin("new-plugin", "write the repository of a new plugin"),
        _builtin("train", "train a model and save it as a package"),
        _builtin("generate", "run a package on an input"),
        _builtin("evaluate", "measure a package on data: metrics, tables, pictures"),
        _builtin("predict", "run a package on files: images, sound, detections, text"),
        _builtin("import", "turn an upstream checkpoint into a package"),
        _builtin("export", "write a package in another weight type or for another engine"),
        _builtin("verify", "check a package's files and outputs"),
        _builtin("bench", "measure a model's speed"),
        _builtin("paths", "show where the headers, the library and the CMake package are"),
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: of the process); returns the exit code."""
    wait_passively()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        with show_progress():
            return _run(arguments)
    except MambaSDKError as error:
        return _fail(str(error), debug)
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", debug, getattr(error, "exit_code", 130), kind="")
    except MemoryError as error:
        return _fail(_out_of_memory(str(error)), debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        if _ALLOCATION.search(str(error)):  # torch's allocators raise RuntimeError
            return _fail(_out_of_memory(reason), debug)
        return _fail(f"{type(error).__name__}: {reason} (--debug shows where)", debug)


def _run(arguments: list[str]) -> int:
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    if name is None or ("--help" in arguments[: arguments.index(name)] or "-h" in arguments[: arguments.index(name)]):
        return _overview(arguments)
    arguments.remove(name)
    with _quiet_stdout() if "--json" in arguments else contextlib.nullcontext():
        spec = _find(name)
        command: Command = resolve(spec.implementation)()
        parser = argparse.ArgumentParser(prog=f"mambasdk {name}", description=spec.summary)
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.add_arguments(parser)
        if isinstance(command, HeadCommand):
            command.add_head_arguments(parser, arguments)
        args = parser.parse_args(arguments)
        if isinstance(getattr(args, "device", None), str):
            check_device(args.device)
        result = command.run(args)
    return _report(result, args.json)


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Let what anyone writes to the process's standard output go to standard error: JSON alone belongs there."""
    try:
        sys.stdout.flush()
        saved = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _find(name: str) -> CommandSpec:
    if name in BUILTIN_COMMANDS:
        return BUILTIN_COMMANDS[name]
    added = get_host().registrations.commands
    if name not in added:
        raise MambaSDKError(f"no command {name!r}", way_out=closest(name, [*BUILTIN_COMMANDS, *added]))
    return added[name]


def _overview(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mambasdk", usage="mambasdk COMMAND [options]", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"mambasdk {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    specs = [*BUILTIN_COMMANDS.values()]
    specs += [spec for name, spec in sorted(get_host().registrations.commands.items()) if name not in BUILTIN_COMMANDS]
    width = max(len(spec.name) for spec in specs)
    lines = [f"  {spec.name:<{width}}  {spec.summary}" for spec in specs]
    parser.description = "State-space models: build, train, package, run.\n\ncommands:\n" + "\n".join(lines)
    parser.epilog = "`mambasdk COMMAND --help` shows a command's options."
    parser.parse_args(arguments)
    parser.print_help()
    return 0


def _report(result: Mapping[str, Any] | None, as_json: bool) -> int:
    if as_json and distributed.reports():
        print(json_text(dict(result or {})))
    return int((result or {}).get("exit_code", 0))


def json_text(value: Any) -> str:
    """A value as valid JSON: numbers that are not finite become null, what JSON has no word for becomes text."""
    return json.dumps(_finite(value), default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):  # numbers and arrays of NumPy
        return _finite(value.tolist())
    return value


def _out_of_memory(reason: str) -> str:
    what = f" ({reason})" if reason else ""
    return f"not enough memory{what}; give a smaller --batch, a smaller model or less data"


def _fail(message: str, debug: bool, code: int = 2, *, kind: str = "error: ") -> int:
    if debug:
        traceback.print_exc()
    print(f"mambasdk: {kind}" + " ".join(message.split()), file=sys.stderr)
    return code

"""Keeps what a plugin does while it is imported away from the host: its output, and, where asked, its death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

IMPORT_SECONDS = 60.0
# Imports entry point argv[1] and says on descriptor argv[2] that the import came back, whatever it raised.
_PROGRAM = """
import os, sys
from importlib.metadata import EntryPoint
try:
    EntryPoint("", sys.argv[1], "").load()
except BaseException:
    pass
os.write(int(sys.argv[2]), b"back")
"""


class DivertedOutput:
    """While it lasts, what this thread writes to `sys.stdout` goes to `sys.stderr`: a result there stays readable.

    A stream that a plugin kept (a logging handler) writes to the real one afterwards.
    """

    def __init__(self) -> None:
        self.printed = False
        self._thread: int | None = None
        self._stdout: TextIO = sys.stdout

    def __enter__(self) -> DivertedOutput:
        self._stdout, self._thread = sys.stdout, threading.get_ident()
        sys.stdout = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread = None
        if sys.stdout is self:
            sys.stdout = self._stdout

    def __getattr__(self, name: str) -> Any:
        if name in ("write", "writelines", "buffer") and threading.get_ident() == self._thread:
            self.printed = True
            return getattr(sys.stderr, name)
        return getattr(self._stdout, name)


def import_in_a_process(value: str, seconds: float = IMPORT_SECONDS) -> str | None:
    """How a process that imports entry point `value` dies: "is killed by SIGSEGV", …; None where it survives.

    An exception or sys.exit is survived: the host deals with both itself.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)  # a process that the plugin left behind may hold the other end
    command = [sys.executable, "-c", _PROGRAM, value, str(writing)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    null = subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, env=environment, pass_fds=(writing,))
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return _too_late(seconds)
        try:
            back = os.read(reading, 4) == b"back"
        except BlockingIOError:
            back = False
        return None if back else _ending(code)
    finally:
        os.close(reading)
        os.close(writing)


def run_apart(program: Path, arguments: list[str], said: bytes, seconds: float) -> str | None:
    """How a program dies or hangs; None where it comes to its own end, which it does after writing `said` somewhere."""
    command = [str(program), *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return _too_late(seconds)
    except OSError:
        return None  # no process can be started here
    own_end = done.returncode >= 0 and (said in done.stdout or said in done.stderr)
    return None if own_end else _ending(done.returncode)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ends with exit code {code} (_exit)"
    try:
        return f"is killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"is killed by signal {-code}"


def _too_late(seconds: float) -> str:
    return f"does not come back within {seconds:g} s"

"""A piece of a test in a process of its own, because what it tests may end in a signal or never end."""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import time
import traceback
from collections.abc import Callable

import pytest
import torch

Step = Callable[[str], None]  # says what comes next: the last thing said is what a crash happened in


def isolated(function: Callable[[Step], None], seconds: float) -> None:
    """Run `function` in a forked child; fail with its traceback, or with the step that a signal or the time ended."""
    notes = mmap.mmap(-1, 1 << 16)  # shared with the child

    def note(text: str) -> None:
        data = text.encode()[: len(notes) - 1]
        notes[: len(data) + 1] = data + b"\0"

    def said() -> str:
        return notes[: notes.find(b"\0")].decode(errors="replace")

    child = os.fork()
    if child == 0:
        code = 1
        try:
            faulthandler.disable()  # a signal may be what is expected
            torch.set_num_threads(1)  # the threads of torch stayed in the parent
            function(note)
            code = 0
        except BaseException:
            note(f"{said()}\n{traceback.format_exc()}")
        os._exit(code)
    status = _wait(child, seconds)
    last = said()
    if status is None:
        pytest.fail(f"still running after {seconds:g} s in: {last}")
    if os.WIFSIGNALED(status):
        pytest.fail(f"ended by {signal.Signals(os.WTERMSIG(status)).name} in: {last}")
    if status != 0:
        pytest.fail(last)


def _wait(child: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid == child:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None

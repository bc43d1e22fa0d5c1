"""Kill a writer at each of its system calls in turn: ptrace through ctypes, so that nothing need be installed."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator

_TRACEME, _SYSCALL, _GETREGS = 0, 24, 12
_ORIG_RAX = 15  # index in user_regs_struct
# x86-64: calls that change what a file system holds, or bring it to the disk.
CALLS = {
    1: "write", 2: "open", 18: "pwrite64", 20: "writev", 74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate",
    82: "rename", 83: "mkdir", 84: "rmdir", 87: "unlink", 90: "chmod", 91: "fchmod", 257: "openat", 258: "mkdirat",
    263: "unlinkat", 264: "renameat", 268: "fchmodat", 285: "fallocate", 316: "renameat2",
}  # fmt: skip
available = sys.platform == "linux" and platform.machine() == "x86_64"

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace if available else None
if _ptrace is not None:
    _ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    _ptrace.restype = ctypes.c_long


def killed_at(work: Callable[[], object], last: int | None = None) -> Iterator[list[str]]:
    """Run `work` in a forked process again and again, killed one stop later each time, until it runs to its end.

    Stops are before and after every call of CALLS; last: only at so many of the last ones. Yields the calls that were
    made after each run, the whole list at last. Skips the test where a process may not trace its child.
    """
    whole = _run(work, None)
    for stop in range(0 if last is None else max(0, len(whole) - last), len(whole)):
        yield _run(work, stop)
    yield whole


def _run(work: Callable[[], object], stop: int | None) -> list[str]:
    import pytest

    assert _ptrace is not None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if _ptrace(_TRACEME, 0, None, None) != 0:
                os._exit(77)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        pytest.skip("this system does not let a process trace its child")
    stops: list[str] = []
    registers = (ctypes.c_ulonglong * 32)()
    while True:
        if _ptrace(_SYSCALL, child, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.waitstatus_to_exitcode(status) == 0, "the work failed by itself"
            return stops
        assert os.WIFSTOPPED(status), status
        _ptrace(_GETREGS, child, None, ctypes.byref(registers))
        call = CALLS.get(registers[_ORIG_RAX])
        if call is None:
            continue
        if len(stops) == stop:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return stops
        stops.append(call)

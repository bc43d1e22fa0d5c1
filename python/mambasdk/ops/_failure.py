"""The type of an error, whatever a release of torch makes of it.

libmambasdk_torch throws C++ exceptions; torch turns them into Python's. Up to 2.13 a wrong argument came out as a
ValueError; 2.15 makes a RuntimeError of everything. So the library remembers this thread's last failure for `typed`.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch.autograd import forward_ad

from mambasdk.ops._forward_mode import refuse_hidden_tangents

_P = ParamSpec("_P")
_R = TypeVar("_R")

_TYPES: dict[int, type[Exception]] = {1: ValueError, 8: MemoryError}  # MAMBASDK_ERROR_INVALID_ARGUMENT, _OUT_OF_MEMORY
_libraries: list[ctypes.CDLL] = []


def watch(library: ctypes.CDLL) -> None:
    """Look into this libmambasdk_torch from now on."""
    library.mambasdk_torch_last_failure.argtypes = [ctypes.POINTER(ctypes.c_char_p)]
    library.mambasdk_torch_last_failure.restype = ctypes.c_int32
    _libraries[:] = [library]


def typed(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, raising ValueError and MemoryError where the library said so and torch says RuntimeError.

    A tensor whose tangent would be lost without a word is refused.
    """

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if forward_ad._current_level >= 0 and not torch.compiler.is_compiling():
            refuse_hidden_tangents(function.__name__, (*args, *kwargs.values()))
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            kind = _type_of(error)
            if kind is None:
                raise
            raise kind(*error.args).with_traceback(error.__traceback__) from None

    return wrapper


def _type_of(error: RuntimeError) -> type[Exception] | None:
    for library in _libraries:
        message = ctypes.c_char_p()
        code = library.mambasdk_torch_last_failure(ctypes.byref(message))
        if code in _TYPES and str(error).startswith((message.value or b"\0").decode(errors="replace")):
            return _TYPES[code]
    return None

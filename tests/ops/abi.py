"""The C ABI through ctypes: calls with poisoned and guarded memory, on a chosen instruction set."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from guard_pages import GuardPages

from mambasdk.ops import _library

MAX_DIMS = 8
GUARD = 64  # bytes of guard on each side of an output; keeps it 64-byte aligned
POISON = 0xFF  # a byte of which every float is NaN
AUTOMATIC, REFERENCE = 0, 1

_CODES = {
    torch.float64: (2, 64),
    torch.float32: (2, 32),
    torch.float16: (2, 16),
    torch.bfloat16: (4, 16),
    torch.complex64: (5, 64),
    torch.complex128: (5, 128),
    torch.int32: (0, 32),
    torch.int64: (0, 64),
    torch.uint8: (1, 8),
    torch.bool: (6, 8),
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}


class String(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_uint64)]

    @classmethod
    def of(cls, text: str) -> String:
        data = text.encode()
        out = cls(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data))
        out._keep = data
        return out

    def text(self) -> str:
        return ctypes.string_at(self.data, self.size).decode()


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _As(ctypes.Union):
    _fields_ = [("tensor", ctypes.POINTER(Tensor)), ("integer", ctypes.c_int64), ("real", ctypes.c_double)]


class Value(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("reserved", ctypes.c_int32), ("as_", _As)]


class OutputPlan(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("ndim", ctypes.c_int32),
        ("present", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("shape", ctypes.c_int64 * MAX_DIMS),
    ]


_Allocate = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
_Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)


class Context(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint64),
        ("device_type", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("stream", ctypes.c_void_p),
        ("user", ctypes.c_void_p),
        ("parallel_for", ctypes.c_void_p),
        ("allocate", _Allocate),
        ("release", _Release),
        ("is_cancelled", ctypes.c_void_p),
    ]


_P = ctypes.c_void_p
_VALUES, _PLANS, _TENSORS = ctypes.POINTER(Value), ctypes.POINTER(OutputPlan), ctypes.POINTER(Tensor)
# The table up to plugin_load, in order: (name, result, arguments).
_SLOTS: list[tuple[str, Any, list[Any]]] = [
    ("status_code", ctypes.c_int32, [_P]),
    ("status_message", String, [_P]),
    ("status_origin", String, [_P]),
    ("status_create", _P, [ctypes.c_int32, String, String]),
    ("status_release", None, [_P]),
    ("version", String, []),
    ("isa_detected", String, []),
    ("isa_active", String, []),
    ("set_max_isa", _P, [String]),
    ("set_num_threads", _P, [ctypes.c_int32]),
    ("num_threads", ctypes.c_int32, []),
    ("op_list", ctypes.c_uint64, [ctypes.POINTER(_P), ctypes.c_uint64]),
    ("op_find", _P, [String]),
    ("op_describe", String, [_P]),
    ("op_plan", _P, [_P, _VALUES, ctypes.c_uint64, _PLANS, ctypes.c_uint64]),
    ("op_call", _P, [_P, ctypes.POINTER(Context), _VALUES, ctypes.c_uint64, _TENSORS, ctypes.c_uint64, ctypes.c_int32]),
    ("plugin_load", _P, [String, ctypes.POINTER(String)]),
]


class _Table(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint64),
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        *((name, ctypes.CFUNCTYPE(result, *arguments)) for name, result, arguments in _SLOTS),
    ]


class AbiError(Exception):
    """A status that came back over the ABI."""


def _load() -> Any:
    override = os.environ.get("MAMBASDK_TORCH_LIBRARY")
    folder = Path(override).parent if override else Path(_library.__file__).parents[1] / "lib"
    library = ctypes.CDLL(str(folder / "libmambasdk.so.1"))
    library.mambasdk_get_api.restype = ctypes.POINTER(_Table)
    return library.mambasdk_get_api(1, 0).contents


api = _load()
_libc = ctypes.CDLL(None)
_libc.aligned_alloc.restype = ctypes.c_void_p
_libc.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]


def _check(status: int | None) -> None:
    if status:
        message = api.status_message(status).text()
        api.status_release(status)
        raise AbiError(message)


@dataclass(eq=False)
class Scratch:
    """Bytes that operations took from their context besides the outputs: now, and at most."""

    now: int = 0
    peak: int = 0

    def add(self, size: int) -> None:
        """Count an allocation, or a release with a negative size."""
        self.now += size
        self.peak = max(self.peak, self.now)


_counting = threading.Lock()
_watchers: list[Scratch] = []


@contextmanager
def scratch() -> Iterator[Scratch]:
    """Count what the calls inside take for workspace."""
    watcher = Scratch()
    _watchers.append(watcher)
    try:
        yield watcher
    finally:
        _watchers.remove(watcher)


def _count(size: int) -> None:
    with _counting:
        for watcher in _watchers:
            watcher.add(size)


@_Allocate
def _allocate(_: Any, size: int, alignment: int) -> int:
    rounded = max(-(-size // alignment) * alignment, alignment)
    data = _libc.aligned_alloc(alignment, rounded)
    ctypes.memset(data, POISON, rounded)
    _count(size)
    return int(data)


@_Release
def _release(_: Any, data: int, size: int) -> None:
    _libc.free(data)
    _count(-size)


def _guarded(pages: GuardPages) -> tuple[Any, Any]:
    @_Allocate
    def allocate(_: Any, size: int, alignment: int) -> int:
        return pages.take(size, alignment)

    @_Release
    def release(_: Any, data: int, size: int) -> None:
        pages.give(data)

    return allocate, release


class ShortMemory:
    """Scratch memory of which the n-th allocation fails; counts what was taken and not given back."""

    def __init__(self, fail: int) -> None:
        self.failed = False
        self.live: dict[int, int] = {}
        self._left = fail
        self._lock = threading.Lock()
        self.functions = _Allocate(self._take), _Release(self._give)

    def _take(self, _: Any, size: int, alignment: int) -> int:
        with self._lock:
            self._left -= 1
            if self._left < 0 and not self.failed:
                self.failed = True
                return 0
            data = int(_libc.aligned_alloc(alignment, max(-(-size // alignment) * alignment, alignment)))
            self.live[data] = size
            return data

    def _give(self, _: Any, data: int, size: int) -> None:
        with self._lock:
            assert self.live.pop(data) == size
        _libc.free(data)


def load_plugin(path: Path) -> None:
    """Load a native plugin."""
    _check(api.plugin_load(String.of(str(path)), None))


def isas() -> list[str]:
    """Instruction sets that this machine has, lowest first."""
    known = ["baseline", "avx2", "avx512", "avx512_bf16", "avx512_amx"]
    return known[: known.index(api.isa_detected().text()) + 1]


@contextmanager
def isa(name: str) -> Iterator[None]:
    """Cap the instruction set."""
    before = api.isa_active().text()
    _check(api.set_max_isa(String.of(name)))
    try:
        yield
    finally:
        _check(api.set_max_isa(String.of(before)))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the size of the runtime's own pool."""
    before = api.num_threads()
    _check(api.set_num_threads(count))
    try:
        yield
    finally:
        _check(api.set_num_threads(before))


class Buffer:
    """An output's memory inside a larger tensor; the bytes around it must survive."""

    def __init__(self, size: int) -> None:
        self.raw = torch.full((size + 2 * GUARD + 64,), POISON, dtype=torch.uint8)
        self.start = -self.raw.data_ptr() % 64 + GUARD
        self.size = size
        self.address = self.raw.data_ptr() + self.start

    def take(self, what: str) -> torch.Tensor:
        """Its bytes."""
        assert bool((self.raw[: self.start] == POISON).all()), f"{what} wrote before an output"
        assert bool((self.raw[self.start + self.size :] == POISON).all()), f"{what} wrote past an output"
        return self.raw[self.start : self.start + self.size].clone()


class GuardedBuffer:
    """An output's memory between guard pages."""

    def __init__(self, size: int, alignment: int, pages: GuardPages) -> None:
        self.size = size
        self.address = pages.take(size, alignment)

    def take(self, _: str) -> torch.Tensor:
        """Its bytes."""
        return torch.frombuffer(
            bytearray(ctypes.string_at(self.address, self.size)) or bytearray(1), dtype=torch.uint8
        )[: self.size]


def plan(name: str, values: Sequence[Any]) -> list[tuple[torch.dtype, tuple[int, ...], bool]]:
    """Dtype, shape and presence of an operation's outputs, as the library plans them."""
    op, inputs, _keep = _arguments(name, values)
    return [(_DTYPES[p.code, p.bits], tuple(p.shape[: p.ndim]), bool(p.present)) for p in _plan(name, op, inputs)]


def _arguments(name: str, values: Sequence[Any]) -> tuple[Any, Any, list[Any]]:
    op = api.op_find(String.of(name))
    assert op, f"there is no operation {name}"
    inputs = (Value * max(len(values), 1))()
    keep: list[Any] = []
    for slot, value in zip(inputs, values, strict=False):
        _fill(slot, value, keep)
    return op, inputs, keep


def _plan(name: str, op: Any, inputs: Any) -> Any:
    signature = _library.adapter.signature(name)
    plans = (OutputPlan * len(signature.outputs))()
    _check(api.op_plan(op, inputs, len(signature.inputs), plans, len(plans)))
    return plans


def call(
    name: str,
    values: Sequence[Any],
    kernel: int = AUTOMATIC,
    pages: GuardPages | None = None,
    short: ShortMemory | None = None,
) -> list[torch.Tensor | None]:
    """Run an operation; outputs and scratch start as NaN bytes, and bytes around the outputs must survive.

    With `pages`, outputs and scratch lie between guard pages; `short` is the scratch. An absent output is None.
    """
    op, inputs, _keep = _arguments(name, values)
    plans = _plan(name, op, inputs)
    count = len(plans)
    outputs = (Tensor * count)()
    buffers: list[Buffer | GuardedBuffer | None] = []
    for slot, plan in zip(outputs, plans, strict=True):
        slot.device_type, slot.lanes = 1, 1
        slot.code, slot.bits, slot.ndim = plan.code, plan.bits, plan.ndim
        slot.shape = plan.shape
        if not plan.present:
            buffers.append(None)
            continue
        size = plan.bits // 8
        for extent in plan.shape[: plan.ndim]:
            size *= extent
        buffer = Buffer(size) if pages is None else GuardedBuffer(size, plan.bits // 8, pages)
        slot.data = buffer.address
        buffers.append(buffer)
    allocate, release = (_allocate, _release) if pages is None else _guarded(pages)
    if short is not None:
        allocate, release = short.functions
    context = Context(struct_size=ctypes.sizeof(Context), device_type=1, allocate=allocate, release=release)
    _check(api.op_call(op, ctypes.byref(context), inputs, len(values), outputs, count, kernel))
    results: list[torch.Tensor | None] = []
    for plan, buffer in zip(plans, buffers, strict=True):
        if buffer is None:
            results.append(None)
            continue
        dtype = _DTYPES[plan.code, plan.bits]
        results.append(buffer.take(name).view(dtype).view(plan.shape[: plan.ndim]))
    return results


@dataclass(frozen=True)
class Forged:
    """A tensor whose extents memory need not have: what a C caller may say."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    data: int


def _fill(slot: Value, value: Any, keep: list[Any]) -> None:
    if value is None:
        slot.kind = 0
    elif isinstance(value, torch.Tensor):
        keep.append(value)
        _fill(slot, Forged(value.dtype, tuple(value.shape), value.stride(), value.data_ptr()), keep)
    elif isinstance(value, Forged):
        code, bits = _CODES[value.dtype]
        shape = (ctypes.c_int64 * max(len(value.shape), 1))(*value.shape)
        strides = (ctypes.c_int64 * max(len(value.shape), 1))(*value.strides)
        tensor = Tensor(value.data, 1, 0, len(value.shape), code, bits, 1, shape, strides, 0)
        keep.extend([shape, strides, tensor])
        slot.kind, slot.as_.tensor = 1, ctypes.pointer(tensor)
    elif isinstance(value, bool):
        slot.kind, slot.as_.integer = 2, int(value)
    elif isinstance(value, int):
        slot.kind, slot.as_.integer = 3, value
    else:
        slot.kind, slot.as_.real = 4, value

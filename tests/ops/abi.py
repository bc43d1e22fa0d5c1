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


def call(name: str, values: Sequence[Any], kernel: int = AUTOMATIC) -> list[torch.Tensor | None]:
    """Run an operation; outputs and scratch start as NaN bytes, and bytes around the outputs must survive.

    An absent output is None.
    """
    op = api.op_find(String.of(name))
    assert op, f"there is no operation {name}"
    inputs = (Value * max(len(values), 1))()
    keep: list[Any] = []
    for slot, value in zip(inputs, values, strict=False):
        _fill(slot, value, keep)
    count = len(_library.adapter.signature(name).outputs)
    plans = (OutputPlan * count)()
    _check(api.op_plan(op, inputs, len(values), plans, count))
    outputs = (Tensor * count)()
    buffers: list[tuple[torch.Tensor, int] | None] = []
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
        raw = torch.full((size + 2 * GUARD + 64,), POISON, dtype=torch.uint8)
        start = -raw.data_ptr() % 64 + GUARD
        slot.data = raw.data_ptr() + start
        buffers.append((raw, start))
    context = Context(struct_size=ctypes.sizeof(Context), device_type=1, allocate=_allocate, release=_release)
    _check(api.op_call(op, ctypes.byref(context), inputs, len(values), outputs, count, kernel))
    results: list[torch.Tensor | None] = []
    for plan, buffer in zip(plans, buffers, strict=True):
        if buffer is None:
            results.append(None)
            continue
        raw, start = buffer
        size = raw.numel() - 2 * GUARD - 64
        assert bool((raw[:start] == POISON).all()), f"{name} wrote before an output"
        assert bool((raw[start + size :] == POISON).all()), f"{name} wrote past an output"
        dtype = _DTYPES[plan.code, plan.bits]
        results.append(raw[start : start + size].clone().view(dtype).view(plan.shape[: plan.ndim]))
    return results


def _fill(slot: Value, value: Any, keep: list[Any]) -> None:
    if value is None:
        slot.kind = 0
    elif isinstance(value, torch.Tensor):
        code, bits = _CODES[value.dtype]
        shape = (ctypes.c_int64 * max(value.dim(), 1))(*value.shape)
        strides = (ctypes.c_int64 * max(value.dim(), 1))(*value.stride())
        tensor = Tensor(value.data_ptr(), 1, 0, value.dim(), code, bits, 1, shape, strides, 0)
        keep.extend([value, shape, strides, tensor])
        slot.kind, slot.as_.tensor = 1, ctypes.pointer(tensor)
    elif isinstance(value, bool):
        slot.kind, slot.as_.integer = 2, int(value)
    elif isinstance(value, int):
        slot.kind, slot.as_.integer = 3, value
    else:
        slot.kind, slot.as_.real = 4, value

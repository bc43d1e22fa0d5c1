"""Strides, huge offsets, threads: the same numbers however memory and work are laid out."""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Callable, Iterator
from typing import Any

import abi
import cases
import pytest
import torch
from tolerance import assert_close, error

from mambasdk import ops
from mambasdk.ops._library import adapter

OPS = cases.forward_ops()


def _transposed(t: torch.Tensor) -> torch.Tensor:
    """The first and the last dim change places in memory."""
    return t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() > 1 else t


def _sliced(t: torch.Tensor) -> torch.Tensor:
    """Every second element of the last dim of a larger tensor, from an odd offset."""
    if t.dim() == 0:
        return t
    wide = torch.zeros(*t.shape[:-1], 2 * t.shape[-1] + 3, dtype=t.dtype)
    wide[..., 3::2][..., : t.shape[-1]] = t
    return wide[..., 3::2][..., : t.shape[-1]]


def _part(t: torch.Tensor) -> torch.Tensor:
    """A part of a wider last dim, as `chunk` and `split` give: unit stride, odd offset."""
    if t.dim() == 0:
        return t
    wide = torch.zeros(*t.shape[:-1], t.shape[-1] + 5, dtype=t.dtype)
    wide[..., 3 : 3 + t.shape[-1]] = t
    return wide[..., 3 : 3 + t.shape[-1]]


def _strided_rows(t: torch.Tensor) -> torch.Tensor:
    """Unit stride in the last dim, gaps in all others."""
    if t.dim() < 2:
        return t
    wide = torch.zeros(*(n + 1 for n in t.shape[:-1]), t.shape[-1], dtype=t.dtype)
    inner = wide[tuple(slice(1, n + 1) for n in t.shape[:-1])]
    inner.copy_(t)
    return inner


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": _transposed,
    "sliced": _sliced,
    "part": _part,
    "strided rows": _strided_rows,
}


def _sides(op: str, types: cases.Types) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Calls of an operation and of its derivative."""
    for case in cases.cases(op):
        if case.id.split("-")[-1] in ("all", "order", "cu_seqlens") or case.id == "bare":
            yield op, str(case), cases.values(case, types)
            if op in cases.differentiable_ops():
                backward, arguments = cases.backward_case(case, types)
                yield backward, f"{case} backward", arguments


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", OPS)
def test_layouts_give_the_same_numbers(op: str, layout: str) -> None:
    change = LAYOUTS[layout]
    for name in ("float32", "bfloat16"):
        types = cases.type_choices(op).get(name)
        if types is None:
            continue
        for side, what, arguments in _sides(op, types):
            reference = abi.call(side, list(cases.widened(side, arguments).values()), abi.REFERENCE)
            moved = {k: change(v) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
            assert all(torch.equal(v, moved[k]) for k, v in arguments.items() if isinstance(v, torch.Tensor))
            _agree(side, abi.call(side, list(moved.values())), reference, types, f"{what} {layout}")
            wide = {
                k: change(v) if isinstance(v, torch.Tensor) else v for k, v in cases.widened(side, arguments).items()
            }
            for a, b in zip(abi.call(side, list(wide.values()), abi.REFERENCE), reference, strict=True):
                assert a is None or (b is not None and torch.equal(a, b)), f"{what} {layout}: the reference"


@pytest.mark.parametrize("op", OPS)
def test_expanded_inputs(op: str) -> None:
    """Stride 0 along the batch: every row is the first one."""
    types = cases.type_choices(op).get("float32", {})
    for side, what, arguments in _sides(op, types):
        batched = {a.name for a in adapter.signature(side).inputs if a.variadic or (a.shape and a.shape[0].name == "B")}
        expanded = {
            k: v[:1].expand_as(v) if k in batched and isinstance(v, torch.Tensor) and v.shape[0] > 1 else v
            for k, v in arguments.items()
        }
        copied = {k: v.contiguous() if isinstance(v, torch.Tensor) else v for k, v in expanded.items()}
        reference = abi.call(side, list(cases.widened(side, copied).values()), abi.REFERENCE)
        _agree(side, abi.call(side, list(expanded.values())), reference, types, f"{what} expanded")


def _agree(op: str, actual: list[Any], reference: list[Any], types: cases.Types, what: str) -> None:
    for output, a, b in zip(adapter.signature(op).outputs, actual, reference, strict=True):
        if a is not None:
            assert_close(a, b, f"{what}: {output.name}", cases.floor(op, types))


# ---- offsets past 2^31 ----


class Sparse:
    """Address space without memory: pages exist once they are touched."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._libc = libc
        self._maps: list[tuple[int, int]] = []

    def place(self, t: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
        """A copy of `t` with these strides."""
        elements = 1 + sum((n - 1) * s for n, s in zip(t.shape, strides, strict=True))
        size = -(-elements * t.element_size() // mmap.PAGESIZE) * mmap.PAGESIZE
        noreserve = 0x4000
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | noreserve
        address = self._libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            pytest.skip(f"the system refuses {size >> 30} GiB of address space")
        self._maps.append((address, size))
        raw = torch.frombuffer((ctypes.c_byte * size).from_address(address), dtype=torch.uint8)
        view = raw.view(t.dtype).as_strided(t.shape, strides)
        return view.copy_(t)

    def close(self) -> None:
        for address, size in self._maps:
            self._libc.munmap(address, size)


@pytest.fixture
def sparse() -> Iterator[Sparse]:
    memory = Sparse()
    yield memory
    memory.close()


def _far_strides(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    """Contiguous but for `dim`, whose last index lies past 2^31 elements."""
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    strides[dim] = (2**31 + 64) // (shape[dim] - 1) + 64
    return tuple(strides)


@pytest.mark.parametrize("op", OPS)
def test_offsets_past_two_to_the_31(op: str, sparse: Sparse) -> None:
    """Each dim in turn is stretched until its last index lies past 2^31 elements."""
    types = cases.type_choices(op).get("float32", {})
    case = cases.cases(op)[0]
    sides = [(op, cases.values(case, types))]
    if op in cases.differentiable_ops():
        sides.append(cases.backward_case(case, types))
    for side, arguments in sides:
        expected = abi.call(side, list(cases.widened(side, arguments).values()), abi.REFERENCE)
        for a in adapter.signature(side).inputs:
            value = arguments[a.name]
            if not isinstance(value, torch.Tensor):
                continue
            for dim in range(value.dim()):
                if value.shape[dim] < 2:
                    continue
                far = sparse.place(value, _far_strides(tuple(value.shape), dim))
                moved = {**arguments, a.name: far}
                what = f"{side}: {a.name} far along dim {dim}"
                _agree(side, abi.call(side, list(moved.values())), expected, types, what)
        sparse.close()
        sparse._maps.clear()


# ---- threads ----


def _large(op: str) -> list[cases.Case]:
    """Enough work to be split."""
    return sorted(cases.cases(op), key=lambda c: -math.prod(n for d, n in c.dims.items() if d in "BLDHPNM"))[:3]


@pytest.mark.parametrize("op", OPS)
def test_equal_bits_for_any_number_of_threads(op: str) -> None:
    for name, types in cases.type_choices(op).items():
        for case in _large(op):
            sides = [(op, cases.values(case, types))]
            if op in cases.differentiable_ops():
                sides.append(cases.backward_case(case, types))
            for side, arguments in sides:
                runs = []
                for count in (1, 2, 3, 2):
                    with abi.threads(count):
                        runs.append(abi.call(side, list(arguments.values())))
                for run in runs[1:]:
                    for output, a, b in zip(adapter.signature(side).outputs, run, runs[0], strict=True):
                        assert _same_bits(a, b), f"{case} {name} {side}: {output.name} depends on the number of threads"


@pytest.mark.parametrize("op", OPS)
def test_equal_bits_in_torchs_threads(op: str) -> None:
    types = cases.type_choices(op).get("float32", {})
    before = torch.get_num_threads()
    try:
        for case in _large(op):
            arguments = cases.values(case, types)
            expected = [v for v in abi.call(op, list(arguments.values())) if v is not None]
            for count in (1, 2):
                torch.set_num_threads(count)
                result = ops.call(op, **arguments)
                present = result if isinstance(result, tuple) else (result,)
                kept = [
                    o for o, a in zip(present, adapter.signature(op).outputs, strict=True) if _present(a, arguments)
                ]
                assert all(_same_bits(a, b) for a, b in zip(kept, expected, strict=True)), f"{case}: {count} threads"
    finally:
        torch.set_num_threads(before)


def test_differentiating_a_long_scan_takes_little_memory() -> None:
    """What the forward scan keeps and what the derivative works in: under a tenth of the inputs."""
    length, channels, states = 32768, 256, 16
    inputs = {
        "u": torch.randn(1, length, channels),
        "delta": torch.rand(1, 1, length, channels) * 0.1,
        "A": -torch.rand(1, channels, states),
        "B": torch.randn(1, 1, length, 1, states),
        "C": torch.randn(1, 1, length, 1, states),
    }

    def run(op: str, **given: Any) -> dict[str, torch.Tensor | None]:
        signature = adapter.signature(op)
        arguments = [given.get(a.name, a.default) for a in signature.inputs]
        return dict(zip((o.name for o in signature.outputs), abi.call(op, arguments), strict=True))

    with abi.scratch() as forward:
        kept = run("selective_scan", **inputs, save_chunk_states=True)["chunk_states"]
    assert kept is not None
    with abi.scratch() as backward:
        gradients = run("selective_scan_backward", grad_y=torch.randn(1, length, channels), chunk_states=kept, **inputs)
    assert all(gradients[f"grad_{name}"] is not None for name in inputs)
    assert forward.now == backward.now == 0
    extra = kept.nbytes + max(forward.peak, backward.peak)
    assert kept.nbytes < extra < 0.1 * sum(t.nbytes for t in inputs.values())


def _present(output: Any, arguments: dict[str, Any]) -> bool:
    return output.condition is None or not (arguments[output.condition] is None or arguments[output.condition] is False)


def _same_bits(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and error(a, b.double() if b.is_floating_point() else b) == 0.0

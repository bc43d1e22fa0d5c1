"""Broadcast arithmetic, copies, joins, reductions and softmax beside torch's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from .case import Case, call

# What the views of a model look like: (contiguous shape, what is done to it).
_VIEWS: dict[str, tuple[tuple[int, ...], Callable[[torch.Tensor], torch.Tensor]]] = {
    "(8, 3136, 96) as (8, 96, 3136)": ((8, 3136, 96), lambda x: x.mT),
    "(8, 96, 3136) as (8, 3136, 96)": ((8, 96, 3136), lambda x: x.mT),
    "(4, 197, 12, 64) by heads": ((4, 197, 12, 64), lambda x: x.transpose(1, 2)),
    "(8, 56, 56, 96) in windows": (
        (8, 56, 56, 96),
        lambda x: x.view(8, 8, 7, 8, 7, 96).transpose(2, 3),
    ),
}
_ROWS = {
    "rows": (8, 3136, 96),
    "last dim": (25088, 96, 1),
    "one long run": (1, 2408448, 1),
    "few columns": (1, 802816, 3),
}


def makers() -> Iterator[tuple[str, Callable[[], Case]]]:
    """An operation's name and a case of it, made when called."""
    for dtype in (torch.float32, torch.bfloat16):
        for other in ("(C)", "(B, 1, C)", "()", "(B, L, C)"):
            yield "add", partial(_broadcast, "add", torch.add, other, dtype)
        yield "multiply", partial(_broadcast, "multiply", torch.mul, "(B, L, 1)", dtype)
        yield "add", partial(_permuted, dtype)
        for view in _VIEWS:
            yield "copy", partial(_copy, view, dtype)
        yield "concat", partial(_concat, dtype)
        for rows in _ROWS:
            yield "sum_rows", partial(_reduction, "sum_rows", torch.sum, rows, dtype)
        yield "max_rows", partial(_reduction, "max_rows", torch.amax, "rows", dtype)
        for shape in ((8, 12, 197, 197), (32, 50280)):
            yield "softmax", partial(_softmax, shape, dtype)
    for op, function in (
        ("gelu", torch.nn.functional.gelu),
        ("exp", torch.exp),
        ("sin", torch.sin),
        ("log", torch.log),
    ):
        yield op, partial(_function, op, function)


def _case(operation: str, shape: str, tensors: dict[str, torch.Tensor], peer: Any) -> Case:
    return Case(
        operation=operation,
        shape=shape,
        tensors=tensors,
        ours=call(operation),
        peer=lambda **given: peer(*given.values()),  # torch names its arguments otherwise
        peer_name="torch",
        backward=False,
    )


def _broadcast(operation: str, peer: Any, other: str, dtype: torch.dtype) -> Case:
    B, L, C = 8, 3136, 96
    shape = {"(C)": (C,), "(B, 1, C)": (B, 1, C), "()": (), "(B, L, C)": (B, L, C), "(B, L, 1)": (B, L, 1)}[other]
    x, y = torch.randn(B, L, C).to(dtype), torch.randn(shape).to(dtype).expand(B, L, C)
    return _case(operation, f"B{B} L{L} C{C}, {other}", {"x": x, "y": y}, peer)


def _permuted(dtype: torch.dtype) -> Case:
    """Both channel-last, seen as channel-first; the result is contiguous, as a next operation may ask of torch's."""
    x, y = (torch.randn(8, 56, 56, 96).to(dtype).permute(0, 3, 1, 2) for _ in range(2))
    return _case("add", "(8, 96, 56, 56) permuted", {"x": x, "y": y}, lambda x, y: torch.add(x, y).contiguous())


def _copy(view: str, dtype: torch.dtype) -> Case:
    shape, move = _VIEWS[view]
    return _case("copy", view, {"x": move(torch.randn(shape).to(dtype))}, lambda x: x.contiguous())


def _concat(dtype: torch.dtype) -> Case:
    tensors = {"x0": torch.randn(32, 1, 768).to(dtype), "x1": torch.randn(32, 196, 768).to(dtype)}
    return _case("concat", "(32, 1 + 196, 768)", tensors, lambda x0, x1: torch.cat([x0, x1], 1))


def _reduction(operation: str, peer: Any, rows: str, dtype: torch.dtype) -> Case:
    shape = _ROWS[rows]
    x = (torch.rand(shape) if shape[-2] > 10000 else torch.randn(shape)).to(dtype)
    return _case(operation, f"{shape}, {rows}", {"x": x}, lambda x: peer(x, dim=-2))


def _softmax(shape: tuple[int, ...], dtype: torch.dtype) -> Case:
    return _case("softmax", f"{shape}", {"x": torch.randn(shape).to(dtype)}, lambda x: torch.softmax(x, -1))


def _function(operation: str, peer: Any) -> Case:
    return _case(operation, "2408448 elements", {"x": torch.rand(2408448) * 4 + 0.1}, peer)

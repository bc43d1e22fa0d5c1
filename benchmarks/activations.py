"""Cases of the operations between activations: products, attention, rotary positions, GRU, long convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from cases import Case
from peers import activations as peers
from torch import Tensor

from mambasdk import ops


def makers() -> Iterator[tuple[str, Callable[[], Case]]]:
    """An operation's name and a case of it, made when called."""
    for count, m, k, n, transposed in ((192, 49, 32, 49, True), (1024, 7, 7, 7, False), (6, 197, 64, 197, True),
                                       (1, 1024, 1024, 1024, False)):  # fmt: skip
        yield "matmul", partial(_matmul, count, m, k, n, transposed)
    for length, heads in ((197, 6), (512, 12), (4096, 12)):
        for causal in (False, True):
            yield "attention", partial(_attention, length, length, heads, heads, causal, torch.float32)
    yield "attention", partial(_attention, 512, 512, 12, 12, False, torch.bfloat16)
    for heads, groups in ((12, 12), (32, 8)):
        yield "attention", partial(_attention, 1, 4096, heads, groups, False, torch.float32)
    for dtype in (torch.float32, torch.bfloat16):
        yield "rotary", partial(_rotary, 4096, 12, 64, dtype)
    for batch, length, units in ((1, 196, 64), (1, 49, 512), (1, 49, 1024), (32, 49, 512), (32, 49, 1024)):
        yield "gru", partial(_gru, batch, length, units)
    for batch, length, channels, taps in ((1, 4096, 768, 4096), (8, 1024, 256, 1024), (1, 65536, 64, 65536),
                                          (1, 4096, 768, 64)):  # fmt: skip
        yield "fft_convolution", partial(_fft_convolution, batch, length, channels, taps)


def _call(name: str, **given: Any) -> Callable[..., Any]:
    return lambda **tensors: ops.call(name, **tensors, **given)


def _matmul(count: int, m: int, k: int, n: int, transposed: bool) -> Case:
    y = torch.randn(count, n, k).transpose(1, 2) if transposed else torch.randn(count, k, n)
    return Case(
        operation="matmul",
        shape=f"{count} x {m}x{k}x{n}" + (" transposed" if transposed else ""),
        tensors={"x": torch.randn(count, m, k), "y": y},
        ours=_call("matmul"),
        peer=peers.matmul,
        peer_name="torch matmul",
        backward=False,
    )


def _attention(queries: int, keys: int, heads: int, groups: int, causal: bool, dtype: torch.dtype) -> Case:
    """Parts of one projection where there is one."""
    width = 64
    if queries == keys and heads == groups:
        q, k, v = torch.randn(1, queries, 3, heads, width).to(dtype).unbind(2)
    else:
        q = torch.randn(1, queries, heads, width).to(dtype)
        k, v = (torch.randn(1, keys, groups, width).to(dtype) for _ in range(2))
    return Case(
        operation="attention",
        shape=f"L{queries} S{keys} H{heads}" + (f" G{groups}" if groups != heads else "") + " causal" * causal,
        tensors={"q": q, "k": k, "v": v},
        ours=_call("attention", scale=width**-0.5, causal=causal),
        peer=partial(peers.attention, causal=causal),
        peer_name="torch sdpa",
        backward=False,
    )


def _rotary(length: int, heads: int, width: int, dtype: torch.dtype) -> Case:
    angles = torch.arange(length)[:, None] * 10000.0 ** -torch.linspace(0, 1, width // 2)
    return Case(
        operation="rotary",
        shape=f"L{length} H{heads} E{width}",
        tensors={"x": torch.randn(1, length, heads, width).to(dtype), "cos": angles.cos(), "sin": angles.sin()},
        ours=_call("rotary"),
        peer=peers.rotary,
        peer_name="torch expressions",
        backward=False,
        compiled=True,
    )


def _gru(batch: int, length: int, units: int) -> Case:
    """With the product of the inputs, as torch's has it."""
    module = torch.nn.GRU(units, units, batch_first=True).requires_grad_(False)
    parameters = dict(module.named_parameters())

    def ours(x: Tensor) -> Any:
        gates = ops.call("linear", x=x, weight=parameters["weight_ih_l0"], bias=parameters["bias_ih_l0"])
        return ops.call("gru", gates=gates, weight=parameters["weight_hh_l0"], bias=parameters["bias_hh_l0"])

    return Case(
        operation="gru",
        shape=f"B{batch} L{length} N{units}",
        tensors={"x": torch.randn(batch, length, units)},
        ours=ours,
        peer=lambda **t: module(t["x"]),
        peer_name="torch GRU",
        backward=False,
    )


def _fft_convolution(batch: int, length: int, channels: int, taps: int) -> Case:
    return Case(
        operation="fft_convolution",
        shape=f"B{batch} L{length} D{channels} K{taps}",
        tensors={"x": torch.randn(batch, length, channels), "kernel": torch.randn(taps, channels)},
        ours=_call("fft_convolution"),
        peer=peers.fft_convolution,
        peer_name="torch rfft",
        backward=False,
    )

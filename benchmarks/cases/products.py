"""Products: of matrices, with packed weights, attention and rotary positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from peers import activations as peers
from torch import Tensor

from mambasdk import ops

from .case import Case, call, random


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
    for rows, channels, features in ((1, 768, 3072), (197, 384, 1536), (512, 768, 3072)):
        yield "linear_packed", partial(_linear_packed, rows, channels, features)
    for rows, groups, channels, features in ((2, 2, 768, 3072), (1024, 2, 768, 3072), (1024, 8, 768, 1536)):
        yield "grouped_linear", partial(_grouped_linear, rows, groups, channels, features)


def _matmul(count: int, m: int, k: int, n: int, transposed: bool) -> Case:
    y = torch.randn(count, n, k).transpose(1, 2) if transposed else torch.randn(count, k, n)
    return Case(
        operation="matmul",
        shape=f"{count} x {m}x{k}x{n}" + (" transposed" if transposed else ""),
        tensors={"x": torch.randn(count, m, k), "y": y},
        ours=call("matmul"),
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
        ours=call("attention", scale=width**-0.5, causal=causal),
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
        ours=call("rotary"),
        peer=peers.rotary,
        peer_name="torch expressions",
        backward=False,
        compiled=True,
    )


def _linear_packed(rows: int, channels: int, features: int) -> Case:
    weight = random(features, channels, scale=channels**-0.5)
    matrix = ops.call("pack_weights", weight=weight)
    return Case(
        operation="linear_packed",
        shape=f"{rows} rows {channels}>{features}",
        tensors={"x": random(rows, channels), "weight": weight, "bias": random(features)},
        ours=lambda x, weight, bias: ops.call("linear_packed", x=x, weight=matrix, bias=bias, features=features),
        peer=torch.nn.functional.linear,
        peer_name="torch linear",
        backward=False,
    )


def _grouped_linear(rows: int, groups: int, channels: int, features: int) -> Case:
    def peer(x: Tensor, weight: Tensor, group: Tensor) -> Tensor:
        """Rows sorted by group, a product of each, and back."""
        order = group.argsort(stable=True)
        parts = x[order].split(torch.bincount(group, minlength=groups).tolist())
        made = torch.cat([torch.nn.functional.linear(part, weight[g]) for g, part in enumerate(parts)])
        return torch.empty_like(made).index_copy(0, order, made)

    return Case(
        operation="grouped_linear",
        shape=f"{rows} rows of {groups} groups {channels}>{features}",
        tensors={
            "x": random(rows, channels),
            "weight": random(groups, features, channels, scale=channels**-0.5),
            "group": torch.randint(0, groups, (rows,), dtype=torch.int32),
        },
        ours=call("grouped_linear"),
        peer=peer,
        peer_name="torch linear by group",
        backward=False,
    )

"""Scans and recurrences: over sequences, by steps, and a whole Mamba mixer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from peers import state_updates
from peers.cross_scan import cross_scan
from peers.diagonal_scan import diagonal_scan
from peers.mamba_block import mixers
from peers.selective_scan import selective_scan
from peers.ssd_torch import inputs, ssd_torch
from torch import Tensor

from mambasdk import ops
from mambasdk.nn import mlstm_parallel

from .case import Case, random

# Many tiny sequences as in tracking models (4096 x 10 x 64); the routes of vision models have a case of their own.
_SCANS = [
    (1, 64, 1536),
    (1, 512, 1536),
    (1, 2048, 1536),
    (1, 8192, 1536),
    (1, 65536, 1536),
    (8, 512, 1536),
    (4096, 10, 64),
]
_PASSES = ("forward", "forward+backward")
_GOALS = {(1, 2048, 1536): {"forward": 20.0, "forward+backward": 15.0}}


def makers() -> Iterator[tuple[str, Callable[[], Case]]]:
    """An operation's name and a case of it, made when called."""
    for shape in _SCANS:
        yield "selective_scan", partial(_selective_scan, *shape, torch.float32, _GOALS.get(shape, {}))
    yield "selective_scan", partial(_selective_scan, 1, 2048, 1536, torch.bfloat16, {})
    yield "selective_scan", partial(_selective_scan, 1, 2048, 1536, torch.float32, {}, gated=True)
    yield "selective_scan", partial(_routed_scan, 1, 3136, 192, 4)
    for batch in (1, 8):
        yield "selective_state_update", partial(_selective_state_update, batch, 1536)
    for batch, length in ((1, 64), (1, 512), (1, 2048), (1, 8192), (1, 65536), (8, 512)):
        yield "ssd", partial(_ssd, batch, length, torch.float32)
    yield "ssd", partial(_ssd, 1, 2048, torch.bfloat16)
    for batch in (1, 8):
        yield "ssd_state_update", partial(_ssd_state_update, batch)
    for length in (512, 1024, 4096, 16384):
        yield "mlstm", partial(_mlstm, 1, length)
    for batch in (1, 8):
        yield "mlstm_state_update", partial(_mlstm_state_update, batch)
    for dtype in (torch.float32, torch.complex64):
        yield "diagonal_scan", partial(_diagonal_scan, 1, 2048, 1536, dtype)
    yield "diagonal_scan", partial(_diagonal_scan, 1, 65536, 1536, torch.float32)
    for batch, length, units in ((1, 196, 64), (1, 49, 512), (1, 49, 1024), (32, 49, 512), (32, 49, 1024)):
        yield "gru", partial(_gru, batch, length, units)
    yield "mamba_block", partial(_mamba_block, 1, 1024, 768)


def _steps(batch: int, length: int, channels: int, dtype: torch.dtype) -> Tensor:
    """Positive time steps up to 0.1, the range in which Mamba's delta starts."""
    return (torch.rand(batch, length, channels) * 0.1).to(dtype)


def _selective_scan(
    batch: int, length: int, channels: int, dtype: torch.dtype, goals: Mapping[str, float], *, gated: bool = False
) -> Case:
    """The scan alone, delta given; `gated`: with softplus and bias of delta and the gate z, as inside a Mamba block."""
    states = 16
    tensors = {
        "u": random(batch, length, channels, dtype=dtype),
        "delta": random(batch, length, channels, dtype=dtype, scale=0.5)
        if gated
        else _steps(batch, length, channels, dtype),
        "A": -torch.arange(1, states + 1, dtype=torch.float32).repeat(channels, 1),
        "B": random(batch, length, states, dtype=dtype),
        "C": random(batch, length, states, dtype=dtype),
        "D": torch.ones(channels),
    }
    if gated:
        tensors |= {
            "z": random(batch, length, channels, dtype=dtype),
            "delta_bias": torch.full((channels,), -3.0),
        }
    return Case(
        operation="selective_scan",
        shape=f"B{batch} L{length} D{channels} N{states}" + (" gated" if gated else ""),
        tensors=tensors,
        ours=lambda **t: ops.selective_scan(**t, delta_softplus=gated),
        peer=selective_scan,
        peer_name="per-step loop",
        length=length,
        sequences=("u", "delta", "B", "C", "z"),
        goals=goals,
    )


def _selective_state_update(batch: int, channels: int) -> Case:
    states = 16
    tensors = {
        "x": random(batch, channels),
        "state": random(batch, channels, states),
        "dt": random(batch, channels),
        "A": -torch.arange(1, states + 1, dtype=torch.float32).repeat(channels, 1),
        "B": random(batch, states),
        "C": random(batch, states),
        "D": torch.ones(channels),
        "z": random(batch, channels),
        "dt_bias": torch.full((channels,), -3.0),
    }
    return Case(
        operation="selective_state_update",
        shape=f"B{batch} D{channels} N{states}",
        tensors=tensors,
        ours=lambda **t: ops.selective_state_update(**t, dt_softplus=True),
        peer=state_updates.selective_state_update,
        peer_name="torch expressions",
        backward=False,
    )


def _routed_scan(batch: int, length: int, channels: int, routes: int) -> Case:
    """Rows and columns of an image, forwards and backwards, as VMamba takes them."""
    states, side = 16, round(length**0.5)
    rows = torch.arange(length, dtype=torch.int32)
    columns = rows.view(side, side).T.flatten()
    tensors = {
        "u": random(batch, length, channels),
        "delta": torch.rand(batch, routes, length, channels) * 0.1,
        "A": -torch.arange(1, states + 1, dtype=torch.float32).repeat(routes, channels, 1),
        "B": random(batch, routes, length, states),
        "C": random(batch, routes, length, states),
        "D": torch.ones(routes, channels),
    }
    order = torch.stack([rows, columns, rows.flip(0), columns.flip(0)][:routes])
    return Case(
        operation="selective_scan",
        shape=f"B{batch} L{length} D{channels} N{states} K{routes}",
        tensors=tensors,
        ours=partial(ops.selective_scan, order=order),
        peer=partial(cross_scan, order=order),
        peer_name="copies per route, our scan",
    )


def _ssd(batch: int, length: int, dtype: torch.dtype) -> Case:
    heads, headdim, states = 24, 64, 128
    names = ("x", "dt", "A", "B", "C", "D", "dt_bias")
    is_goal = (batch, length) == (1, 2048)
    goals = {"forward": 2.0, "forward+backward": 3.0} if dtype == torch.float32 else dict.fromkeys(_PASSES, 4.0)
    return Case(
        operation="ssd",
        shape=f"B{batch} L{length} H{heads} P{headdim} N{states}",
        tensors=dict(zip(names, inputs(batch, length, heads, headdim, 1, states, dtype), strict=True)),
        ours=lambda **t: ops.ssd(**t, dt_softplus=True),
        peer=partial(ssd_torch, chunk=min(128, length)),
        peer_name="chunked",
        compiled=length in (512, 2048),
        length=length,
        sequences=("x", "dt", "B", "C"),
        longest_peer=16384,
        longest_check=16384,
        goals=goals if is_goal else {},
    )


def _ssd_state_update(batch: int) -> Case:
    heads, headdim, states = 24, 64, 128
    tensors = {
        "x": random(batch, heads, headdim),
        "state": random(batch, heads, headdim, states),
        "dt": random(batch, heads),
        "A": -torch.linspace(1, 16, heads),
        "B": random(batch, states),
        "C": random(batch, states),
        "D": torch.ones(heads),
        "dt_bias": torch.full((heads,), -3.0),
    }
    return Case(
        operation="ssd_state_update",
        shape=f"B{batch} H{heads} P{headdim} N{states}",
        tensors=tensors,
        ours=lambda **t: ops.ssd_state_update(**t, dt_softplus=True),
        peer=state_updates.ssd_state_update,
        peer_name="torch expressions",
        backward=False,
    )


def _mlstm(batch: int, length: int) -> Case:
    heads, width = 4, 64
    tensors = {name: random(batch, length, heads, width) for name in ("q", "k", "v")}
    return Case(
        operation="mlstm",
        shape=f"B{batch} L{length} H{heads} E{width}",
        tensors=tensors
        | {
            "igate": random(batch, length, heads),
            "fgate": random(batch, length, heads, scale=0.5) + torch.linspace(3, 6, heads),
        },
        ours=ops.mlstm,
        peer=mlstm_parallel,
        peer_name="parallel form",
        length=length,
        sequences=("q", "k", "v", "igate", "fgate"),
        goals={"forward+backward": 8.0} if length == 4096 else {},
    )


def _mlstm_state_update(batch: int) -> Case:
    heads, width = 4, 64
    tensors = {name: random(batch, heads, width) for name in ("q", "k", "v")}
    return Case(
        operation="mlstm_state_update",
        shape=f"B{batch} H{heads} E{width}",
        tensors=tensors
        | {
            "C": random(batch, heads, width, width),
            "n": random(batch, heads, width),
            "m": random(batch, heads),
            "igate": random(batch, heads),
            "fgate": random(batch, heads) + 4.0,
        },
        ours=partial(ops.call, "mlstm_state_update"),
        peer=state_updates.mlstm_state_update,
        peer_name="torch expressions",
        backward=False,
    )


def _diagonal_scan(batch: int, length: int, channels: int, dtype: torch.dtype) -> Case:
    rate = torch.rand(channels)
    angle = torch.rand(channels) * 6.28
    return Case(
        operation="diagonal_scan",
        shape=f"B{batch} L{length} D{channels}",
        tensors={
            "b": torch.randn(batch, length, channels, dtype=dtype),
            "a": torch.polar(rate, angle) if dtype.is_complex else rate,
        },
        ours=ops.diagonal_scan,
        peer=diagonal_scan,
        peer_name="per-step loop",
        length=length,
        sequences=("b",),
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


def _mamba_block(batch: int, length: int, d_model: int) -> Case:
    """The whole mixer with its projections; backward gives the gradients of its parameters too."""
    parameters, ours, peer = mixers(d_model)
    return Case(
        operation="mamba_block",
        shape=f"B{batch} L{length} D{d_model}",
        tensors={"x": random(batch, length, d_model), **parameters},
        ours=ours,
        peer=peer,
        peer_name="transformers",
        length=length,
        sequences=("x",),
        longest_check=256,
        goals={"forward+backward": 20.0},
    )

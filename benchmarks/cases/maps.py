"""Pools, resizing and sampling of maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from peers import maps
from torch import Tensor

from .case import Case, call, random

_RESIZE = {"nearest": 0, "bilinear": 2, "bicubic": 3}


def makers() -> Iterator[tuple[str, Callable[[], Case]]]:
    """An operation's name and a case of it, made when called."""
    yield "max_pool", partial(_pool, "max_pool", 1, 112, 64, 3, 2)
    yield "max_pool", partial(_pool, "max_pool", 1, 20, 256, 5, 1)
    yield "average_pool", partial(_pool, "average_pool", 1, 112, 64, 2, 2)
    for side, channels in ((7, 2048), (112, 64)):
        yield "adaptive_average_pool", partial(_global_average, 1, side, channels)
    for mode in _RESIZE:
        for side, channels in ((64, 64), (64, 19), (256, 1)):
            yield "resize", partial(_resize, 1, side, channels, mode)
    for side, channels in ((128, 64), (512, 3)):
        yield "grid_sample", partial(_grid_sample, 1, side, channels)
    for batch, side, channels in ((1, 64, 64), (8, 28, 160)):
        yield "deformable_sample", partial(_deformable_sample, batch, side, channels)


def map_case(
    operation: str, shape: str, tensors: dict[str, Tensor], peer: Callable[..., Any], peer_name: str, **scalars: Any
) -> Case:
    ours = call(operation, **scalars)
    return Case(operation, shape, tensors, ours, peer, f"torch {peer_name}", backward=False)


def _map(batch: int, side: int, channels: int) -> Tensor:
    return random(batch, 1, side, side, channels)


def _pool(operation: str, batch: int, side: int, channels: int, kernel: int, stride: int) -> Case:
    padding = (kernel - 1) // 2
    sides = {"kernel": kernel, "stride": stride, "padding": padding, "padding_after": padding}
    arguments = {f"{name}_{axis}": value for name, value in sides.items() for axis in "hw"}
    return map_case(
        operation,
        f"B{batch} {side}x{side} C{channels} {kernel}/{stride}",
        {"x": _map(batch, side, channels)},
        partial(getattr(maps, operation), kernel=kernel, stride=stride),
        "channels_last",
        kernel_d=1,
        stride_d=1,
        **arguments,
    )


def _global_average(batch: int, side: int, channels: int) -> Case:
    return map_case(
        "adaptive_average_pool",
        f"B{batch} {side}x{side} C{channels} to 1",
        {"x": _map(batch, side, channels)},
        maps.adaptive_average_pool,
        "channels_last",
        depth=1,
        height=1,
        width=1,
    )


def _resize(batch: int, side: int, channels: int, mode: str) -> Case:
    return map_case(
        "resize",
        f"B{batch} {side}x{side} C{channels} {mode} x2",
        {"x": _map(batch, side, channels)},
        partial(maps.resize, mode=mode),
        "channels_last",
        depth=1,
        height=2 * side,
        width=2 * side,
        mode=_RESIZE[mode],
    )


def _grid_sample(batch: int, side: int, channels: int) -> Case:
    """Positions a pixel or so away from their own."""
    center = (torch.arange(side) + 0.5) * 2 / side - 1
    grid = torch.stack([center.expand(side, side), center[:, None].expand(side, side)], -1)
    return map_case(
        "grid_sample",
        f"B{batch} {side}x{side} C{channels}",
        {"x": _map(batch, side, channels), "grid": grid + random(batch, 1, side, side, 2, scale=2 / side)},
        maps.grid_sample,
        "channels_last",
    )


def _deformable_sample(batch: int, side: int, channels: int) -> Case:
    """Offsets of an element or so, 32 channels to a group as in HRVMamba."""
    groups = channels // 32
    return Case(
        "deformable_sample",
        f"B{batch} {side}x{side} C{channels} G{groups}",
        {
            "x": random(batch, side, side, channels),
            "offset_mask": random(batch, side, side, -(-27 * groups // 8) * 8),
        },
        call("deformable_sample", groups=groups),
        partial(maps.deformable_sample, groups=groups),
        "torch grid_sample",
    )

"""Normalisations of rows, of groups of channels and of views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from peers import maps, norm
from torch import Tensor

from mambasdk import ops

from .case import Case, random
from .maps import map_case


def makers() -> Iterator[tuple[str, Callable[[], Case]]]:
    """An operation's name and a case of it, made when called."""
    for dtype in (torch.float32, torch.bfloat16):
        for rows in (2048, 16384):
            yield "rms_norm", partial(_rms_norm, rows, 768, dtype)
        yield "layer_norm", partial(_layer_norm, 2048, 768, dtype)
    for side, channels, groups in ((256, 64, 8), (64, 256, 32), (512, 32, 32), (512, 3, 3)):
        yield "group_norm", partial(_group_norm, 1, side, channels, groups)
    for side, channels in ((56, 96), (64, 192), (14, 768)):
        yield "layer_norm of a view", partial(_permuted_layer_norm, 1, side, channels)


def _rms_norm(rows: int, channels: int, dtype: torch.dtype) -> Case:
    tensors = {
        "x": random(rows, channels, dtype=dtype),
        "weight": torch.ones(channels, dtype=dtype),
        "residual": random(rows, channels, dtype=dtype),
    }
    shape = f"{rows} rows of {channels}"
    return Case("rms_norm", shape, tensors, ops.rms_norm, norm.rms_norm, "torch add, rms_norm")


def _layer_norm(rows: int, channels: int, dtype: torch.dtype) -> Case:
    tensors = {
        "x": random(rows, channels, dtype=dtype),
        "weight": torch.ones(channels, dtype=dtype),
        "bias": torch.zeros(channels, dtype=dtype),
        "residual": random(rows, channels, dtype=dtype),
    }
    shape = f"{rows} rows of {channels}"
    return Case("layer_norm", shape, tensors, ops.layer_norm, norm.layer_norm, "torch add, layer_norm")


def _parameters(x: Tensor) -> dict[str, Tensor]:
    return {"x": x, "weight": random(x.shape[-1]), "bias": random(x.shape[-1])}


def _group_norm(batch: int, side: int, channels: int, groups: int) -> Case:
    return map_case(
        "group_norm",
        f"B{batch} {side}x{side} C{channels} G{groups}",
        _parameters(random(batch, side * side, channels)),
        partial(maps.group_norm, groups=groups, side=side),
        "channels_last",
        groups=groups,
    )


def _permuted_layer_norm(batch: int, side: int, channels: int) -> Case:
    """Over the channels of channel-first memory."""
    return map_case(
        "layer_norm",
        f"B{batch} {side}x{side} C{channels} view",
        _parameters(random(batch, channels, side * side).transpose(1, 2)),
        maps.layer_norm,
        "layer_norm",
    )

"""Convolutions: causal, over maps, and long ones by FFT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from peers import activations, convolution, state_updates

from mambasdk import ops

from .case import Case, call, random

# Channels, height and width, features, kernel, stride, groups, depth (1: a plane).
_CONVOLUTIONS = [
    (3, 224, 64, 7, 2, 1, 1),  # ResNet-50
    (64, 56, 64, 3, 1, 1, 1),
    (256, 56, 64, 1, 1, 1, 1),
    (128, 56, 128, 3, 2, 1, 1),
    (128, 28, 128, 3, 1, 1, 1),
    (256, 14, 256, 3, 1, 1, 1),
    (512, 7, 512, 3, 1, 1, 1),
    (32, 256, 32, 3, 1, 1, 1),  # U-Net
    (64, 128, 64, 3, 1, 1, 1),
    (128, 64, 128, 3, 1, 1, 1),
    (512, 16, 512, 3, 1, 1, 1),
    (16, 64, 16, 3, 1, 1, 64),
    (64, 16, 64, 3, 1, 1, 16),
    (3, 640, 16, 3, 2, 1, 1),  # YOLOv8n
    (32, 80, 32, 3, 1, 1, 1),
    (64, 80, 80, 3, 1, 1, 1),
    (128, 20, 128, 3, 1, 1, 1),
    (96, 56, 96, 3, 1, 96, 1),  # depthwise, grouped
    (128, 56, 128, 3, 1, 32, 1),
]


def makers() -> Iterator[tuple[str, Callable[[], Case]]]:
    """An operation's name and a case of it, made when called."""
    for dtype in (torch.float32, torch.bfloat16):
        for batch in (1, 8):
            yield "causal_conv1d", partial(_causal_conv1d, batch, 2048, 1536, dtype)
            yield "causal_conv1d_update", partial(_causal_conv1d_update, batch, 1536, dtype)
    for sizes in _CONVOLUTIONS:
        yield "convolution", partial(_convolution, *sizes)
    for batch, length, channels, taps in ((1, 4096, 768, 4096), (8, 1024, 256, 1024), (1, 65536, 64, 65536),
                                          (1, 4096, 768, 64)):  # fmt: skip
        yield "fft_convolution", partial(_fft_convolution, batch, length, channels, taps)


def _causal_conv1d(batch: int, length: int, channels: int, dtype: torch.dtype) -> Case:
    tensors = {
        "x": random(batch, length, channels, dtype=dtype),
        "weight": random(channels, 4, dtype=dtype, scale=0.5),
        "bias": random(channels, dtype=dtype),
    }
    return Case(
        operation="causal_conv1d",
        shape=f"B{batch} L{length} D{channels} K4",
        tensors=tensors,
        ours=lambda **t: ops.causal_conv1d(**t, silu=True),
        peer=convolution.causal_conv1d,
        peer_name="torch conv1d",
    )


def _causal_conv1d_update(batch: int, channels: int, dtype: torch.dtype) -> Case:
    tensors = {
        "x": random(batch, channels, dtype=dtype),
        "state": random(batch, 3, channels, dtype=dtype),
        "weight": random(channels, 4, dtype=dtype, scale=0.5),
        "bias": random(channels, dtype=dtype),
    }
    return Case(
        operation="causal_conv1d_update",
        shape=f"B{batch} D{channels} K4",
        tensors=tensors,
        ours=lambda **t: ops.causal_conv1d_update(**t, silu=True),
        peer=state_updates.causal_conv1d_update,
        peer_name="torch expressions",
        backward=False,
    )


def _convolution(channels: int, side: int, features: int, kernel: int, stride: int, groups: int, depth: int) -> Case:
    """Channels last on both sides; ours with weights packed before, as a program has them, where there is one group."""
    dims = 2 if depth == 1 else 3
    memory = torch.channels_last if dims == 2 else torch.channels_last_3d
    weight = random(features, channels // groups, *[kernel] * dims, scale=(channels // groups * kernel**dims) ** -0.5)
    tensors = {
        "x": random(1, channels, *([depth] if dims == 3 else []), side, side).to(memory_format=memory),
        "weight": weight.to(memory_format=memory),
        "bias": random(features),
    }
    places = {"stride": stride, "padding": kernel // 2, "groups": groups}
    return Case(
        operation="convolution",
        shape=f"{channels}>{features} {side}{f'^{dims}' if depth > 1 else ''} k{kernel} s{stride}"
        + (f" g{groups}" if groups > 1 else ""),
        tensors=tensors,
        ours=convolution.PackedConvolution(weight, stride, groups),
        peer=partial(convolution.torch_convolution, **places),
        peer_name="torch channels_last",
        backward=False,
    )


def _fft_convolution(batch: int, length: int, channels: int, taps: int) -> Case:
    return Case(
        operation="fft_convolution",
        shape=f"B{batch} L{length} D{channels} K{taps}",
        tensors={"x": torch.randn(batch, length, channels), "kernel": torch.randn(taps, channels)},
        ours=call("fft_convolution"),
        peer=activations.fft_convolution,
        peer_name="torch rfft",
        backward=False,
    )

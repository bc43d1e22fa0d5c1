"""Layers that compute in float32 whatever autocast says: scans overflow float16, and lose steps in bfloat16."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

from mambasdk.nn import accumulate_dtype


def without_autocast(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`layer(x)`; inside an autocast region of float32 and with autocast off, as float32 weights then compute."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return layer(x)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(kind, enabled=False))
        return layer(accumulate_dtype(x))

"""What the causal mixers share: the check of their input, the single step, the initial step sizes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import ShapeError


def check_input(x: Tensor, d_model: int, mixer: str) -> None:
    """Raise ShapeError unless x is (B, L, d_model)."""
    if x.ndim != 3 or x.shape[-1] != d_model:
        raise ShapeError("bad x", where=mixer, expected=f"(B, L, {d_model})", got=tuple(x.shape))


def is_single_step(x: Tensor) -> bool:
    """Whether to take the update operations, for inference; exported programs keep the length dynamic."""
    return not torch.is_grad_enabled() and not torch.compiler.is_exporting() and x.shape[1] == 1


def initial_dt_bias(size: int, dt_min: float, dt_max: float, floor: float, device: Any) -> Tensor:
    """(size) float32 such that softplus of it is log-uniform in [dt_min, dt_max], from `floor` (arXiv 2312.00752)."""
    uniform = torch.rand(size, device=device, dtype=torch.float32)
    dt = torch.exp(uniform * (math.log(dt_max) - math.log(dt_min)) + math.log(dt_min)).clamp(min=floor)
    return dt + torch.log(-torch.expm1(-dt))

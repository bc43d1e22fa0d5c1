"""What mixers share: the checks of their arguments, the single step, the initial step sizes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError, ShapeError


def check_input(x: Tensor, d_model: int, mixer: str) -> None:
    """Raise ShapeError unless x is (B, L, d_model)."""
    if x.ndim != 3 or x.shape[-1] != d_model:
        raise ShapeError("bad x", where=mixer, expected=f"(B, L, {d_model})", got=tuple(x.shape))


def refuse_state(state: Any, return_state: bool, mixer: str) -> None:
    """Raise InvalidArgumentError where a state is given to, or asked of, a mixer that reads from both ends."""
    if state is not None or return_state:
        raise InvalidArgumentError(
            "a bidirectional mixer has no state that continues a sequence",
            where=mixer,
            way_out="call it without state and return_state",
        )


def heads_of(channels: int, headdim: int, ngroups: int, mixer: str) -> int:
    """H = channels / headdim. Raises InvalidArgumentError where that, or heads per group, is no whole number."""
    heads, rest = divmod(channels, headdim)
    if rest:
        raise InvalidArgumentError(
            "bad headdim", where=mixer, expected=f"a divisor of {channels} channels", got=headdim
        )
    if heads % ngroups:
        raise InvalidArgumentError("bad ngroups", where=mixer, expected=f"a divisor of {heads} heads", got=ngroups)
    return heads


def step_limits(dt_limit: tuple[float | None, float | None] | None, mixer: str) -> tuple[float, float]:
    """(low, high) that clamp step sizes; None is no bound. Raises InvalidArgumentError unless they ascend."""
    low, high = dt_limit or (None, None)
    # Softplus is positive: a bound below that holds nothing back, and JSON has no infinity.
    limits = 0.0 if low is None else max(float(low), 0.0), math.inf if high is None else float(high)
    if not limits[0] <= limits[1]:
        raise InvalidArgumentError(
            "bad dt_limit", where=mixer, expected="two ascending numbers or None", got=repr(dt_limit)
        )
    return limits


def is_single_step(x: Tensor) -> bool:
    """Whether to take the update operations, for inference; exported programs keep the length dynamic."""
    return not torch.is_grad_enabled() and not torch.compiler.is_exporting() and x.shape[1] == 1


def initial_dt_bias(size: int, dt_min: float, dt_max: float, floor: float, device: Any) -> Tensor:
    """(size) float32 such that softplus of it is log-uniform in [dt_min, dt_max], from `floor` (arXiv 2312.00752)."""
    uniform = torch.rand(size, device=device, dtype=torch.float32)
    dt = torch.exp(uniform * (math.log(dt_max) - math.log(dt_min)) + math.log(dt_min)).clamp(min=floor)
    return dt + torch.log(-torch.expm1(-dt))

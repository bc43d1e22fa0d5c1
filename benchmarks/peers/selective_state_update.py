"""One step of the selective scan as PyTorch expressions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def selective_state_update(
    *, state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """state (B, D, N), x, dt, z (B, D), A (D, N), B, C (B, N), D, delta_bias (D) -> y (B, D), the new state."""
    dt = functional.softplus(dt + delta_bias)
    state = torch.exp(dt[..., None] * A) * state + (dt * x)[..., None] * B[:, None]
    return ((state * C[:, None]).sum(-1) + x * D) * functional.silu(z), state

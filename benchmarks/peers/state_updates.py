"""One step of each recurrence as PyTorch expressions, for decoding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def selective_state_update(
    *, state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """state (B, D, N), x, dt, z (B, D), A (D, N), B, C (B, N), D, dt_bias (D) -> y (B, D), the new state."""
    dt = functional.softplus(dt + dt_bias)
    state = torch.exp(dt[..., None] * A) * state + (dt * x)[..., None] * B[:, None]
    return ((state * C[:, None]).sum(-1) + x * D) * functional.silu(z), state


def ssd_state_update(
    *, state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """state (B, H, P, N), x (B, H, P), dt (B, H), A, D, dt_bias (H), B, C (B, N) -> y (B, H, P), the new state."""
    dt = functional.softplus(dt + dt_bias)
    decay = torch.exp(dt * A)[..., None, None]
    state = decay * state + (dt[..., None] * x)[..., None] * B[:, None, None]
    return (state @ C[:, None, :, None]).squeeze(-1) + x * D[:, None], state


def mlstm_state_update(
    *, q: Tensor, k: Tensor, v: Tensor, C: Tensor, n: Tensor, m: Tensor, igate: Tensor, fgate: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, n (B, H, E), C (B, H, E, E), m, igate, fgate (B, H) -> h (B, H, E), the new C, n and m."""
    decayed = functional.logsigmoid(fgate) + m
    m = torch.maximum(decayed, igate)
    keep, take = torch.exp(decayed - m)[..., None], torch.exp(igate - m)[..., None]
    k = k * q.shape[-1] ** -0.5
    C = keep[..., None] * C + (take * v)[..., None] * k[..., None, :]
    n = keep * n + take * k
    divisor = torch.maximum((n * q).sum(-1).abs(), torch.exp(-m)) + 1e-6
    return (C @ q[..., None]).squeeze(-1) / divisor[..., None], C, n, m


def causal_conv1d_update(*, x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, D), state (B, K-1, D), weight (D, K), bias (D), SiLU -> y (B, D), the new state."""
    window = torch.cat([state, x[:, None]], 1)  # (B, K, D)
    return functional.silu((window * weight.mT).sum(1) + bias), window[:, 1:]

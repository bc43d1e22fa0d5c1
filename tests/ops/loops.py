"""The recurrences in plain PyTorch, one step at a time: what the operations mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def selective_scan(
    u: Tensor,  # (B, L, D)
    delta: Tensor,  # (B, L, D)
    A: Tensor,  # (D, N)
    B: Tensor,  # (B, L, N) or (B, L, G, N)
    C: Tensor,  # as B
    D: Tensor | None = None,  # (D)
    z: Tensor | None = None,  # (B, L, D)
    delta_bias: Tensor | None = None,  # (D)
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,  # (B, D, N)
    return_final_state: bool = False,
) -> Any:
    """y as u, with `return_final_state` (y, state (B, D, N)); computed in float32, or float64 beside float64.

    Source: arXiv 2312.00752, algorithm 2.
    """
    dtype = u.dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    batch, length, channels = u.shape
    x, dt = u.to(wide), delta.to(wide)
    if delta_bias is not None:
        dt = dt + delta_bias.to(wide)
    if delta_softplus:
        dt = functional.softplus(dt)
    b, c = (_per_channel(t.to(wide), channels) for t in (B, C))  # (B, L, D or 1, N)
    h = u.new_zeros(batch, channels, A.shape[-1], dtype=wide) if initial_state is None else initial_state.to(wide)
    rows = []
    for t in range(length):
        step = dt[:, t].unsqueeze(-1)  # (B, D, 1)
        h = torch.exp(step * A) * h + step * b[:, t] * x[:, t].unsqueeze(-1)  # (B, D, N)
        rows.append((h * c[:, t]).sum(-1))
    y = torch.stack(rows, 1) if rows else torch.zeros_like(x)
    if D is not None:
        y = y + x * D
    if z is not None:
        y = y * functional.silu(z.to(wide))
    y = y.to(dtype)
    return (y, h) if return_final_state else y


def _per_channel(t: Tensor, channels: int) -> Tensor:
    """(B, L, N) -> (B, L, 1, N); (B, L, G, N) -> (B, L, D, N)."""
    if t.dim() == 3:
        return t.unsqueeze(2)
    return t.repeat_interleave(channels // t.shape[2], dim=2)


def ssd(
    x: Tensor,  # (B, L, H, P)
    dt: Tensor,  # (B, L, H)
    A: Tensor,  # (H)
    B: Tensor,  # (B, L, G, N)
    C: Tensor,  # as B
    D: Tensor,  # (H)
    z: Tensor | None,  # (B, L, H, P)
    dt_bias: Tensor,  # (H)
    state: Tensor,  # (B, H, P, N)
    *,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    reverse: bool = False,
    dt_on_x: bool = True,
) -> tuple[Tensor, Tensor]:
    """(y as x, final state), with softplus. Source: arXiv 2405.21060, equation 5 with a scalar A per head."""
    delta = functional.softplus(dt + dt_bias).clamp(*dt_limit)  # (B, L, H)
    b, c = (t.repeat_interleave(x.shape[2] // t.shape[2], 2) for t in (B, C))  # (B, L, H, N)
    rows = [x.new_empty(0)] * x.shape[1]
    for t in range(x.shape[1])[:: -1 if reverse else 1]:
        inner = x[:, t] * delta[:, t, :, None] if dt_on_x else x[:, t]  # (B, H, P)
        state = torch.exp(delta[:, t] * A)[..., None, None] * state + inner[..., None] * b[:, t, :, None]
        rows[t] = (state * c[:, t, :, None]).sum(-1) + x[:, t] * D[:, None]
    y = torch.stack(rows, 1)
    return y if z is None else y * functional.silu(z), state


def diagonal_scan(b: Tensor, a: Tensor, state: Tensor, reverse: bool = False) -> tuple[Tensor, Tensor]:
    """(x, final state) of x_t = a_t x_(t-1) + b_t; b (B, L, D), a broadcasts to it, state (B, D)."""
    a = a.expand_as(b)
    rows = [b.new_empty(0)] * b.shape[1]
    for t in range(b.shape[1])[:: -1 if reverse else 1]:
        state = a[:, t] * state + b[:, t]
        rows[t] = state
    return torch.stack(rows, 1), state

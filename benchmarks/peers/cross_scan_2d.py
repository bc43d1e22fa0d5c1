"""SS2D's routes by copies, as published code has it: cross-scan, a scan of four times the channels, cross-merge."""

from __future__ import annotations

import torch
from torch import Tensor

from mambasdk import ops


def copies(u: Tensor) -> Tensor:
    """u (B, H, W, D) -> (B, L, 4, D): rows, columns, and both from the end."""
    rows = u.flatten(1, 2)
    columns = u.transpose(1, 2).flatten(1, 2)
    return torch.stack([rows, columns, rows.flip(1), columns.flip(1)], dim=2)


def merge(y: Tensor, height: int, width: int) -> Tensor:
    """y (B, L, 4, D) -> (B, H, W, D), the sum of what the four routes say of a pixel."""
    rows = y[:, :, 0] + y[:, :, 2].flip(1)
    columns = y[:, :, 1] + y[:, :, 3].flip(1)
    total = rows.unflatten(1, (height, width)) + columns.unflatten(1, (width, height)).transpose(1, 2)
    return total.contiguous()


def projected(xs: Tensor, x_proj: Tensor, dt_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Delta (B, L, 4, D), B and C (B, L, 4, N) of copies (B, L, 4, D); x_proj (4, R+2N, D), dt_proj (4, D, R)."""
    rank = dt_proj.shape[-1]
    low = torch.einsum("blkd,kcd->blkc", xs, x_proj)
    states = (low.shape[-1] - rank) // 2
    dt_low, B, C = low.split([rank, states, states], dim=-1)
    return torch.einsum("blkr,kdr->blkd", dt_low, dt_proj).contiguous(), B, C


def scan(xs: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """One plain scan over (B, L, 4 * D) with a group per route; A (4, D, N), D and delta_bias (4, D)."""
    y: Tensor = ops.selective_scan(
        xs.flatten(2),
        delta.flatten(2),
        A.flatten(0, 1),
        B,
        C,
        D=D.flatten(),
        delta_bias=delta_bias.flatten(),
        delta_softplus=True,
    )
    return y.view(xs.shape)


def ss2d_core(mixer: torch.nn.Module, u: Tensor) -> Tensor:
    """What `SS2D` does between its convolution and its norm, with copies: u (B, H, W, D) -> the same shape."""
    _, height, width, inner = u.shape
    xs = copies(u)
    delta, B, C = projected(xs, mixer.x_proj_weight, mixer.dt_projs_weight)
    A = -torch.exp(mixer.A_logs).view(4, inner, -1)
    y = scan(xs, delta, A, B, C, mixer.Ds.view(4, inner), mixer.dt_projs_bias)
    return merge(y, height, width)


def gathered(
    *, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, order: Tensor
) -> Tensor:
    """The routed scan's own arguments, delta, B and C by pixel: all of them copied into the order of the routes.

    u (B, L, D), delta (B, 4, L, D), A (4, D, N), B, C (B, 4, L, N), order (4, L) -> (B, L, D).
    """
    index = order.long()
    routes = torch.arange(4)[:, None]
    xs = u[:, index].transpose(1, 2)  # (B, L, 4, D)
    ordered = [tensor[:, routes, index].transpose(1, 2) for tensor in (delta, B, C)]
    y = scan(xs.contiguous(), ordered[0].contiguous(), A, ordered[1], ordered[2], D, delta_bias)
    total = torch.zeros_like(u)
    for route in range(4):
        total.index_add_(1, index[route], y[:, :, route])
    return total

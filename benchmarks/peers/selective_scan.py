"""The selective scan as a loop over time steps in PyTorch (arXiv 2312.00752, algorithm 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def selective_scan(
    *,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
) -> Tensor:
    """u, delta, z (B, L, D), A (D, N), B, C (B, L, N), D, delta_bias (D) -> (B, L, D); float32 inside.

    With a bias, delta goes through softplus too.
    """
    x, b, c = u.float(), B.float(), C.float()
    dt = delta.float()  # (B, L, D)
    if delta_bias is not None:
        dt = functional.softplus(dt + delta_bias)
    dt_x = dt * x
    h = x.new_zeros(x.shape[0], x.shape[2], A.shape[1])  # (B, D, N)
    rows = []
    # unbind once: indexing a step would give each its own gradient of the whole tensor, L times the work.
    for dt_t, dx_t, b_t, c_t in zip(dt.unbind(1), dt_x.unbind(1), b.unbind(1), c.unbind(1), strict=True):
        h = torch.exp(dt_t[..., None] * A) * h + dx_t[..., None] * b_t[:, None]
        rows.append((h * c_t[:, None]).sum(-1))
    y = torch.stack(rows, 1) + x * D  # (B, L, D)
    return (y if z is None else y * functional.silu(z.float())).to(u.dtype)

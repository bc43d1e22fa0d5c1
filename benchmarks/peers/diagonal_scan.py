"""The diagonal recurrence as a loop over time steps in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def diagonal_scan(*, b: Tensor, a: Tensor) -> Tensor:
    """b (B, L, D), a (D) or (B, L, D), real or complex: x_t = a_t x_(t-1) + b_t, (B, L, D)."""
    x = torch.zeros_like(b[:, 0])
    rows = []
    for a_t, b_t in zip([a] * b.shape[1] if a.dim() == 1 else a.unbind(1), b.unbind(1), strict=True):
        x = a_t * x + b_t
        rows.append(x)
    return torch.stack(rows, 1)

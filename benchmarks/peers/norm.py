"""Norms of PyTorch with the residual addition before them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def rms_norm(x: Tensor, weight: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual (…, D), weight (D) -> (norm of the sum, the sum)."""
    total = x + residual
    return functional.rms_norm(total, weight.shape, weight, 1e-5), total


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual (…, D), weight and bias (D) -> (norm of the sum, the sum)."""
    total = x + residual
    return functional.layer_norm(total, weight.shape, weight, bias, 1e-5), total

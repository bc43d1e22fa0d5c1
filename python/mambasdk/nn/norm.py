"""Normalisation layers with the residual addition fused in; statistics in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk import ops
from mambasdk.nn.precision import accumulate_dtype


class _Norm(nn.Module):
    """Shared by RMSNorm and LayerNorm; `operation` names the op of both the torch and the native side."""

    operation: str
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, dim: int, eps: float, bias: bool, device: Any, dtype: Any) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim, device=device, dtype=dtype))
        self.register_parameter("bias", nn.Parameter(torch.zeros(dim, device=device, dtype=dtype)) if bias else None)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """Norm of x (…, D); with `residual` (…, D), (norm of x + residual, that sum in the residual's dtype)."""
        operation = getattr(ops, self.operation)
        return operation(x, self.weight, self.bias, residual=residual, eps=self.eps)

    def extra_repr(self) -> str:
        """The module's line in a printed model."""
        return f"{self.dim}, eps={self.eps}, bias={self.bias is not None}"


def add_norm(
    norm: nn.Module, h: Tensor, residual: Tensor | None, *, residual_in_fp32: bool = True
) -> tuple[Tensor, Tensor]:
    """(norm of h + residual, that sum): the beginning of a pre-norm residual block, in one pass over memory.

    norm: an RMSNorm or LayerNorm of this module. h: (…, D), the branch before. residual: (…, D), the sum of all before
    that; None in the first block, whose sum is h itself. residual_in_fp32: keep that sum in float32.
    """
    if residual is not None:
        normed, total = norm(h, residual)
        return normed, total
    return norm(h), accumulate_dtype(h) if residual_in_fp32 else h


class RMSNorm(_Norm):
    """`x * rsqrt(mean(x^2) + eps) * weight`, product and statistics in float32 (arXiv 1910.07467)."""

    operation = "rms_norm"

    def __init__(self, dim: int, eps: float = 1e-5, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__(dim, eps, False, device, dtype)


class LayerNorm(_Norm):
    """Layer normalisation with weight and bias, statistics in float32."""

    operation = "layer_norm"

    def __init__(self, dim: int, eps: float = 1e-5, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__(dim, eps, True, device, dtype)


class ResidualLayerNorm(nn.Module):
    """Layer normalisation without a bias whose weight is `1 + weight`; groups of channels normed apart.

    weight: (D), begins at 0. group_size: channels that are normed together, None is all. Statistics in float32.
    """

    def __init__(
        self, dim: int, group_size: int | None = None, *, eps: float = 1e-5, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.group_size = group_size
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(dim, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """X (…, D) -> (…, D)."""
        y: Tensor = ops.layer_norm(x, 1 + self.weight, eps=self.eps, group_size=self.group_size)
        return y

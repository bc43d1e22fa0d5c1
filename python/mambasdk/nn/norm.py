"""Normalisation layers with the residual addition fused in; statistics in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk import ops
from mambasdk.lowering import Program, Value


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

    def lower(self, program: Program, x: Value, prefix: str, residual: Value | None = None) -> tuple[Value, Value]:
        """Native form; returns (y, sum of x and residual)."""
        bias = None if self.bias is None else program.weight(f"{prefix}.bias")
        arguments: dict[str, Any] = {"x": x, "weight": program.weight(f"{prefix}.weight"), "bias": bias}
        if residual is None:
            return program.op(self.operation, **arguments, eps=self.eps), x
        y, total = program.op(
            self.operation, outputs=("y", "residual_out"), **arguments, residual=residual, eps=self.eps
        )
        return y, total

    def extra_repr(self) -> str:
        """The module's line in a printed model."""
        return f"{self.dim}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(_Norm):
    """`x * rsqrt(mean(x^2) + eps) * weight`, product and statistics in float32 (spec section 6)."""

    operation = "rms_norm"

    def __init__(self, dim: int, eps: float = 1e-5, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__(dim, eps, False, device, dtype)


class LayerNorm(_Norm):
    """Layer normalisation with weight and bias, statistics in float32."""

    operation = "layer_norm"

    def __init__(self, dim: int, eps: float = 1e-5, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__(dim, eps, True, device, dtype)

"""Normalisation over the last dim, with the residual addition and the gate fused in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mambasdk.ops._failure import typed


@typed
def rms_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    z: Tensor | None = None,
    eps: float = 1e-5,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    sigmoid_gate: bool = False,
) -> Any:
    """`h / sqrt(mean(h^2) + eps) * weight + bias`, statistics in float32, with `h = x + residual`.

    Source: arXiv 1910.07467; the gated form is that of Mamba-2 (arXiv 2405.21060). Differentiable in every tensor.

    Args:
        x: (…, channels), float32, bfloat16, float16 or float64.
        weight, bias: (channels), in one dtype, which may be another than that of x; or None.
        residual: as x, in any floating-point dtype, or None.
        z: as x, in any floating-point dtype, the gate, or None: norm(h) * silu(z), or norm(h * silu(z)) without
            `norm_before_gate`; sigmoid(z) in place of silu(z) with `sigmoid_gate`.
        eps: added to the mean square. group_size: channels that are normalised together; None for all.

    Returns:
        y as x; with `residual`, (y, h) where h has the dtype of residual.

    Raises:
        ValueError: a wrong shape, dtype, device or value, with the argument, what was expected and what came.

    """
    return _norm(
        torch.ops.mambasdk.rms_norm, x, weight, bias, residual, z, eps, group_size, norm_before_gate, sigmoid_gate
    )


@typed
def layer_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    z: Tensor | None = None,
    eps: float = 1e-5,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    sigmoid_gate: bool = False,
) -> Any:
    """`(h - mean(h)) / sqrt(var(h) + eps) * weight + bias`; arguments, returns and errors are those of `rms_norm`.

    Source: arXiv 1607.06450. The variance is the biased one.
    """
    return _norm(
        torch.ops.mambasdk.layer_norm, x, weight, bias, residual, z, eps, group_size, norm_before_gate, sigmoid_gate
    )


def _norm(
    operation: Any,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    z: Tensor | None,
    eps: float,
    group_size: int | None,
    norm_before_gate: bool,
    sigmoid_gate: bool,
) -> Any:
    y, total = operation(
        x=x,
        weight=weight,
        bias=bias,
        residual=residual,
        z=z,
        eps=eps,
        group_size=group_size or 0,
        norm_before_gate=norm_before_gate,
        sigmoid_gate=sigmoid_gate,
    )
    return y if residual is None else (y, total)

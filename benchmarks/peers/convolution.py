"""The causal depthwise convolution through PyTorch's conv1d."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, L, D), weight (D, K), bias (D), SiLU -> (B, L, D)."""
    channels, width = weight.shape
    y = functional.conv1d(x.transpose(1, 2), weight[:, None], bias, padding=width - 1, groups=channels)
    return functional.silu(y[..., : x.shape[1]]).transpose(1, 2)

"""Mamba's selective SSM, step by step in float64 from a mixer's parameters: what tests recompute mixers with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Parameters:
    """Of one scan: conv (I, K) and its bias, x_proj (R+2N, I), dt_proj (I, R) and its bias, A_log (I, N), D (I)."""

    conv: Tensor
    conv_bias: Tensor
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    A_log: Tensor
    D: Tensor

    @classmethod
    def of(cls, mixer: nn.Module, suffix: str = "") -> Parameters:
        """Those of a mixer by their names, with `_b` or `_s` at the end."""
        tensors = {name: tensor.detach().double() for name, tensor in mixer.named_parameters()}
        conv, dt = f"conv1d{suffix}", f"dt_proj{suffix}"
        return cls(
            tensors[f"{conv}.weight"][:, 0],
            tensors[f"{conv}.bias"],
            tensors[f"x_proj{suffix}.weight"],
            tensors[f"{dt}.weight"],
            tensors[f"{dt}.bias"],
            tensors[f"A{suffix}_log"],
            tensors[f"D{suffix}"],
        )


def scan(given: Parameters, x: Tensor, z: Tensor) -> Tensor:
    """X and z (L, I) in the order of the steps to the gated output (L, I)."""
    width, states = given.conv.shape[1], given.A_log.shape[1]
    rank = given.dt_proj.shape[1]
    padded = torch.cat([x.new_zeros(width - 1, x.shape[1]), x])
    h = x.new_zeros(x.shape[1], states)
    rows = []
    for step in range(len(x)):
        window = padded[step : step + width]  # (K, I), oldest first
        u = functional.silu((window * given.conv.T).sum(0) + given.conv_bias)
        low, B, C = (given.x_proj @ u).split([rank, states, states])
        delta = functional.softplus(given.dt_proj @ low + given.dt_bias)
        h = torch.exp(delta[:, None] * -given.A_log.exp()) * h + (delta * u)[:, None] * B
        rows.append((h @ C + given.D * u) * functional.silu(z[step]))
    return torch.stack(rows)

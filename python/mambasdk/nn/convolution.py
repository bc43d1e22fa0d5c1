"""Depthwise convolutions along a channel-last sequence: causal, with the state that continues it, and centred."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError


class _DepthwiseConv1d(nn.Module):
    """weight: (D, 1, K), bias: (D) or None: the names and shapes of torch's depthwise Conv1d."""

    bias: nn.Parameter | None

    def __init__(
        self, channels: int, width: int, *, bias: bool = True, silu: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        if not isinstance(width, int) or width < 1:
            raise InvalidArgumentError(
                "bad width", where=type(self).__name__, expected="an integer of 1 or more", got=repr(width)
            )
        self.channels = channels
        self.width = width
        self.silu = silu
        self.weight = nn.Parameter(torch.empty(channels, 1, width, device=device, dtype=dtype))
        self.register_parameter(
            "bias", nn.Parameter(torch.empty(channels, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in +-1/sqrt(fan in), as torch's Conv1d."""
        bound = 1 / math.sqrt(self.width)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """The module's line in a printed model."""
        return f"{self.channels}, width={self.width}, bias={self.bias is not None}, silu={self.silu}"


class CausalConv1d(_DepthwiseConv1d):
    """`y_t = bias + sum_k weight[:, 0, k] * x_(t-K+1+k)`, then SiLU where asked.

    width: K, 1 or more; 2 to 4 are fastest, beyond 8 the scalar kernel runs.
    weight: (D, 1, K), bias: (D) or None: the names and shapes of torch's depthwise Conv1d.
    """

    def forward(
        self,
        x: Tensor,  # (B, L, D)
        state: Tensor | None = None,  # (B, K-1, D), oldest first; (S, K-1, D) with cu_seqlens
        *,
        return_state: bool = False,
        cu_seqlens: Tensor | None = None,  # (S+1) int32
        reverse: bool = False,
    ) -> Any:
        """Output (B, L, D); with `return_state`, (output, the state after the last step).

        reverse: from the last position to the first.
        """
        return ops.causal_conv1d(
            x,
            self.weight.squeeze(1),
            self.bias,
            initial_state=None if state is None else state.to(x.dtype),
            cu_seqlens=cu_seqlens,
            silu=self.silu,
            return_final_state=return_state,
            reverse=reverse,
        )

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step without gradients: x (B, D), state (B, K-1, D) -> (y (B, D), new state)."""
        y, new_state = ops.causal_conv1d_update(state.to(x.dtype), x, self.weight.squeeze(1), self.bias, silu=self.silu)
        return y, new_state


class CentredConv1d(_DepthwiseConv1d):
    """`y_t = bias + sum_k weight[:, 0, k] * x_(t-h+k)` with h = (K-1)/2, then SiLU where asked; zeros beyond the ends.

    width: K, odd. weight: (D, 1, K), bias: (D) or None, as torch's depthwise Conv1d with padding h.
    Computed as a causal convolution of the past and the present, and one of the future that runs from the end: no
    padded copy is made, and packed sequences stay apart.
    """

    def __init__(
        self, channels: int, width: int, *, bias: bool = True, silu: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(channels, width, bias=bias, silu=silu, device=device, dtype=dtype)
        if width % 2 == 0:
            raise InvalidArgumentError(
                "bad width", where="CentredConv1d", expected="an odd number: an even one has no middle", got=width
            )

    def forward(
        self,
        x: Tensor,  # (B, L, D)
        *,
        cu_seqlens: Tensor | None = None,  # (S+1) int32
    ) -> Tensor:
        """Output (B, L, D)."""
        weight, half = self.weight.squeeze(1), self.width // 2  # (D, K)
        future = None
        if half:
            ahead = functional.pad(weight[:, half + 1 :].flip(1), (0, 1))  # (D, h+1), nothing of the present
            future = ops.causal_conv1d(x, ahead, cu_seqlens=cu_seqlens, reverse=True)
        y: Tensor = ops.causal_conv1d(x, weight[:, : half + 1], self.bias, cu_seqlens=cu_seqlens, residual=future)
        return functional.silu(y) if self.silu else y

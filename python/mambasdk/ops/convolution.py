"""Depthwise causal convolution, over whole sequences and for one step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mambasdk.ops._failure import typed


@typed
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    silu: bool = False,
    return_final_state: bool = False,
    reverse: bool = False,
) -> Any:
    """Depthwise causal convolution along the length, differentiable in every floating-point argument::

        y_t = bias + sum over k of weight[:, k] * x_(t - K + 1 + k)        and y_t * sigmoid(y_t) with `silu`

    Source: arXiv 2312.00752, the convolution of the mixer (figure 3).

    Args:
        x: (batch, length, channels), float32, bfloat16, float16 or float64.
        weight: (channels, K), K from 2 to 8. bias: (channels) in the dtype of weight, or None.
        initial_state: (batch, K-1, channels), the inputs before the first step, oldest first;
            (sequences, K-1, channels) with `cu_seqlens`; None for zeros. Its dtype is that of x.
        cu_seqlens: (sequences + 1) int32 offsets of sequences packed in batch 1, from 0 to length.
        silu: apply SiLU. return_final_state: also return the last K-1 inputs.
        reverse: run from the last position to the first (of each sequence), `y_t` from x_t to x_(t + K - 1); the result
            of flipping x, convolving and flipping back, without the flips. Both states then stand at the other end,
            oldest first in the order of the steps.

    Returns:
        y as x; with `return_final_state`, (y, final_state) where final_state is as initial_state.

    Raises:
        ValueError: a wrong shape, dtype, device or value, with the argument, what was expected and what came.

    """
    y, final_state = torch.ops.mambasdk.causal_conv1d(
        x=x,
        weight=weight,
        bias=bias,
        initial_state=initial_state,
        cu_seqlens=cu_seqlens,
        silu=silu,
        return_final_state=return_final_state,
        reverse=reverse,
    )
    return (y, final_state) if return_final_state else y


@typed
def causal_conv1d_update(
    state: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None, silu: bool = False
) -> tuple[Tensor, Tensor]:
    """One step of `causal_conv1d`, for decoding.

    Args:
        state: (batch, K-1, channels), the last inputs, oldest first. x: (batch, channels).
        weight: (channels, K). bias: (channels), or None. silu: apply SiLU.

    Returns:
        (y (batch, channels), the state moved on by x); `state` itself is left as it is.

    Raises:
        ValueError: a wrong shape, dtype or device.

    """
    y, new_state = torch.ops.mambasdk.causal_conv1d_update(state=state, x=x, weight=weight, bias=bias, silu=silu)
    return y, new_state

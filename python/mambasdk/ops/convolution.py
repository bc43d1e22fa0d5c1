"""Depthwise causal convolution, over whole sequences and for one step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mambasdk.ops._arguments import check_rank
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
    seq_idx: Tensor | None = None,
    residual: Tensor | None = None,
) -> Any:
    """Depthwise causal convolution along the length, differentiable in every floating-point argument::

        y_t = bias + sum over k of weight[:, k] * x_(t - K + 1 + k)        and y_t * sigmoid(y_t) with `silu`;
        then + residual_t

    Source: arXiv 2312.00752, the convolution of the mixer (figure 3).

    Args:
        x: (batch, length, channels), float32, bfloat16, float16 or float64.
        weight: (channels, K), any K; 2 to 4 are fastest, beyond 8 the scalar kernel runs.
        bias: (channels) in the dtype of weight, or None.
        initial_state: (batch, K-1, channels), the inputs before the first step, oldest first;
            (sequences, K-1, channels) with `cu_seqlens`; None for zeros. Its dtype is that of x.
        cu_seqlens: (sequences + 1) int32 offsets of sequences packed in batch 1, from 0 to length.
        silu: apply SiLU. return_final_state: also return the last K-1 inputs.
        reverse: run from the last position to the first (of each sequence), `y_t` from x_t to x_(t + K - 1); the result
            of flipping x, convolving and flipping back, without the flips. Both states then stand at the other end,
            oldest first in the order of the steps.
        seq_idx: (batch, length) int32: a run of equal entries is a sequence of its own, and -1 is padding, which no
            output sees and where y is 0. The first sequence of a row starts from its initial_state, the last one leaves
            its final state. Not with `cu_seqlens`.
        residual: as x, added after the activation, or None.

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
        seq_idx=seq_idx,
        residual=residual,
    )
    return (y, final_state) if return_final_state else y


@typed
def causal_conv1d_update(
    state: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    silu: bool = False,
    state_indices: Tensor | None = None,
    cache_seqlens: Tensor | None = None,
    pad_slot_id: int = -1,
) -> tuple[Tensor, Tensor]:
    """One step of `causal_conv1d`, or a few, for decoding.

    Args:
        state: (batch, M, channels) with M >= K-1: the last M inputs, oldest first, of which K-1 are used; in any
            floating-point dtype. (slots, M, channels) with `state_indices`.
        x: (batch, channels), or (batch, steps, channels) for steps that are done one after another.
        weight: (channels, K). bias: (channels), or None. silu: apply SiLU.
        state_indices: (batch) int32: row b has its state in slot state_indices[b] of the pool, each its own. A row with
            `pad_slot_id` has none: it reads and writes nothing, and its y is 0.
        cache_seqlens: (batch) int32, the number of inputs that each row has seen: its state is then a ring, in which
            input i stands at place i % M.

    Returns:
        (y as x, the states moved on by x in the dtype of state); `state` itself is left as it is.

    Raises:
        ValueError: a wrong shape, dtype, device or value.

    """
    check_rank("causal_conv1d_update", "x", x, "(batch, channels)", "(batch, steps, channels)")
    rows = []
    for t, step in enumerate(x.unbind(1) if x.dim() == 3 else (x,)):
        y, state = torch.ops.mambasdk.causal_conv1d_update(
            state=state,
            x=step,
            weight=weight,
            bias=bias,
            silu=silu,
            state_indices=state_indices,
            cache_seqlens=cache_seqlens if cache_seqlens is None or t == 0 else cache_seqlens + t,
            pad_slot_id=pad_slot_id,
        )
        rows.append(y)
    if x.dim() == 2:
        return rows[0], state
    return (torch.stack(rows, 1) if rows else torch.empty_like(x)), state

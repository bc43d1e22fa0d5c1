"""The matrix memory of xLSTM, over whole sequences and for one step."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mambasdk.ops._arguments import check_rank, widen
from mambasdk.ops._failure import typed


class MLSTMMemory(NamedTuple):
    """State of `mlstm`: C and n are in units of exp(m). All are float32, float64 beside float64."""

    C: Tensor  # (B, H, E, E): of values by keys
    n: Tensor  # (B, H, E): the sum of keys, for the normaliser
    m: Tensor  # (B, H): the running maximum of the gates' logarithms


@typed
def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate: Tensor,
    fgate: Tensor,
    initial_state: tuple[Tensor, Tensor, Tensor] | None = None,
    return_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    chunk: int = 64,
) -> Any:
    """The mLSTM, computed in chunks by matrix products, differentiable in every floating-point argument.

    With `k' = k / sqrt(E)`, per head::

        m_t = max(logsigmoid(fgate_t) + m_(t-1), igate_t)
        a = exp(logsigmoid(fgate_t) + m_(t-1) - m_t);  b = exp(igate_t - m_t)
        C_t = a * C_(t-1) + b * v_t k'_t^T;  n_t = a * n_(t-1) + b * k'_t
        h_t = C_t q_t / (max(|n_t q_t|, exp(-m_t)) + 1e-6)

    Source: arXiv 2405.04517, section 2.3 and appendix A.3. Time and memory are linear in the length.

    Args:
        q, k, v: (batch, length, heads, E), float32, bfloat16, float16 or float64.
        igate, fgate: (batch, length, heads), before their functions; in the dtype of q, or float32 beside a 16-bit q.
        initial_state: C (batch, heads, E, E), n (batch, heads, E) and m (batch, heads), such as an MLSTMMemory; None
            is C = 0, n = 0, m = -inf (the lowest float32). Batch is the number of sequences with `cu_seqlens`.
        return_final_state: also return the state after the last step.
        cu_seqlens: (sequences + 1) int32 offsets of sequences packed in batch 1, from 0 to length.
        chunk: steps that are computed together, 1 to 1024. It changes time, memory and roundings alone.

    Returns:
        h as q; with `return_final_state`, (h, MLSTMMemory).

    Raises:
        ValueError: a wrong shape, dtype, device or value, with the argument, what was expected and what came.

    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        check_rank("mlstm", name, tensor, "(batch, length, heads, E)")
    C, n, m = (None, None, None) if initial_state is None else initial_state
    h, *final = torch.ops.mambasdk.mlstm(
        q=q,
        k=k,
        v=v,
        igate=igate,
        fgate=fgate,
        initial_C=widen(C, q),
        initial_n=widen(n, q),
        initial_m=widen(m, q),
        cu_seqlens=cu_seqlens,
        chunk=chunk,
        return_final_state=return_final_state,
    )
    return (h, MLSTMMemory(*final)) if return_final_state else h


@typed
def mlstm_state_update(
    state: tuple[Tensor, Tensor, Tensor], q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor
) -> tuple[Tensor, MLSTMMemory]:
    """One step of `mlstm`, for decoding.

    Args:
        state: C (batch, heads, E, E), n (batch, heads, E) and m (batch, heads), such as an MLSTMMemory. Zeros begin a
            sequence too: m = 0 in place of -inf changes h by a factor within 1e-6 of 1.
        q, k, v: (batch, heads, E). igate, fgate: (batch, heads). Dtypes as of `mlstm`.

    Returns:
        (h as q, the new state); `state` itself is left as it is.

    Raises:
        ValueError: a wrong shape, dtype or device.

    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        check_rank("mlstm_state_update", name, tensor, "(batch, heads, E)")
    C, n, m = state
    h, *new_state = torch.ops.mambasdk.mlstm_state_update(
        C=widen(C, q), n=widen(n, q), m=widen(m, q), q=q, k=k, v=v, igate=igate, fgate=fgate
    )
    return h, MLSTMMemory(*new_state)

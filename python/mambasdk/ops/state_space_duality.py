"""The scan of Mamba-2 with its scalar decay per head, over whole sequences and for one step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mambasdk.ops._arguments import check_rank, widen, widen_state
from mambasdk.ops._failure import typed

_NO_LIMIT = (0.0, math.inf)


@typed
def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = _NO_LIMIT,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    seq_idx: Tensor | None = None,
    dt_on_x: bool = True,
    reverse: bool = False,
) -> Any:
    """State-space duality, computed in chunks by matrix products, differentiable in every floating-point argument.

    With `d = clamp(dt + dt_bias)` (through softplus first where `dt_softplus`), per head::

        S_t = exp(d_t * A) * S_(t-1) + d_t * x_t B_t^T
        y_t = (S_t C_t + D * x_t) * silu(z_t)

    Source: arXiv 2405.21060, section 6; without `dt_on_x` the discrete form of arXiv 2408.10189.

    Args:
        x: (batch, length, heads, headdim), float32, bfloat16, float16 or float64. dt: (batch, length, heads).
            B and C have the dtype of x; dt and z have it too, or are float32 beside a 16-bit x.
        A: (heads), float32 (float64 beside float64); lower precision is widened. So for D, dt_bias and states.
        B, C: (batch, length, N), or (batch, length, groups, N): group g serves heads / groups neighbouring heads.
        D: (heads) or (heads, headdim), or None. z: as x, or None: no gate. dt_bias: (heads), or None.
        dt_softplus: apply softplus to dt + dt_bias. dt_limit: bounds of d after that.
        initial_state: (batch, heads, headdim, N), or None for zeros; (sequences, …) with `cu_seqlens`.
        return_final_state: also return the state after the last step.
        cu_seqlens: (sequences + 1) int32 offsets of sequences packed in batch 1, from 0 to length.
        seq_idx: (batch, length) int32: the state becomes zero where it changes. Not with `cu_seqlens`.
        dt_on_x: multiply x by d. reverse: run from the last step to the first; initial_state is then after the end.

    Returns:
        y as x; with `return_final_state`, (y, final_state), the state float32 and shaped as initial_state.

    Raises:
        ValueError: a wrong shape, dtype, device or value, with the argument, what was expected and what came.

    """
    name = "ssd"
    check_rank(name, "x", x, "(batch, length, heads, headdim)")
    check_rank(name, "B", B, "(batch, length, N)", "(batch, length, groups, N)")
    check_rank(name, "C", C, "(batch, length, N)", "(batch, length, groups, N)")
    check_rank(name, "D", D, "(heads)", "(heads, headdim)")
    outputs = torch.ops.mambasdk.ssd(
        x=x,
        dt=dt,
        A=widen(A, x),
        B=B.unsqueeze(2) if B.dim() == 3 else B,
        C=C.unsqueeze(2) if C.dim() == 3 else C,
        D=_skip(D, x),
        z=z,
        dt_bias=widen(dt_bias, x),
        initial_state=widen(initial_state, x),
        cu_seqlens=cu_seqlens,
        seq_idx=seq_idx,
        dt_softplus=dt_softplus,
        dt_on_x=dt_on_x,
        reverse=reverse,
        return_final_state=return_final_state,
        **_limits(dt_limit),
    )
    y, final_state = outputs[:2]  # the rest is for the derivative
    return (y, final_state) if return_final_state else y


@typed
def ssd_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = _NO_LIMIT,
    dt_on_x: bool = True,
    state_indices: Tensor | None = None,
    pad_slot_id: int = -1,
) -> tuple[Tensor, Tensor]:
    """One step of `ssd`, for decoding.

    Args:
        state: (batch, heads, headdim, N), float32, bfloat16 or float16 (float64 beside float64);
            (slots, heads, headdim, N) with `state_indices`. The step is computed in float32 and rounded once to the
            state's dtype.
        x: (batch, heads, headdim). dt: (batch, heads). A, dt_bias: (heads). D: (heads) or (heads, headdim).
        B, C: (batch, N) or (batch, groups, N). z: as x, or None. The flags and dtypes are those of `ssd`.
        state_indices: (batch) int32: the slot of `state` that holds each row's state; no slot twice.
        pad_slot_id: the index of a padded row: it reads and writes no slot, its y is 0 and its gradients are 0.

    Returns:
        (y as x, the new state as `state`); `state` itself is left as it is, and slots of no row are the same in both.

    Raises:
        ValueError: a wrong shape, dtype, device or index.

    """
    name = "ssd_state_update"
    check_rank(name, "x", x, "(batch, heads, headdim)")
    check_rank(name, "B", B, "(batch, N)", "(batch, groups, N)")
    check_rank(name, "C", C, "(batch, N)", "(batch, groups, N)")
    check_rank(name, "D", D, "(heads)", "(heads, headdim)")
    y, new_state = torch.ops.mambasdk.ssd_state_update(
        state=widen_state(state, x),
        x=x,
        dt=dt,
        A=widen(A, x),
        B=B.unsqueeze(1) if B.dim() == 2 else B,
        C=C.unsqueeze(1) if C.dim() == 2 else C,
        D=_skip(D, x),
        z=z,
        dt_bias=widen(dt_bias, x),
        dt_softplus=dt_softplus,
        dt_on_x=dt_on_x,
        state_indices=state_indices,
        pad_slot_id=pad_slot_id,
        **_limits(dt_limit),
    )
    return y, new_state


def _skip(D: Tensor | None, x: Tensor) -> Tensor | None:
    """D as (heads, 1) or (heads, headdim)."""
    if D is None:
        return None
    return widen(D.unsqueeze(-1) if D.dim() == 1 else D, x)


def _limits(dt_limit: tuple[float, float]) -> dict[str, float]:
    # An infinite bound is left to the default: exported programs are JSON, which has no infinity.
    low, high = dt_limit
    return {"dt_min": low} | ({} if high == math.inf else {"dt_max": high})

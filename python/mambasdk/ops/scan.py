"""The selective scan of Mamba, over whole sequences and for one step, and the plain diagonal recurrence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mambasdk.ops._arguments import check_rank, widen
from mambasdk.ops._failure import typed

_NAME = "selective_scan"


@typed
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    order: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    step_params: bool = False,
    reverse: bool = False,
) -> Any:
    """Selective state-space recurrence along the sequence, differentiable in every floating-point argument.

    With `dt = delta + delta_bias` (through softplus where `delta_softplus`), per channel and state::

        h_t = exp(dt_t * A) * h_(t-1) + dt_t * B_t * u_t
        y_t = (sum over states of C_t * h_t + D * u_t) * silu(z_t)

    Source: arXiv 2312.00752, section 3.2 and algorithm 2 (zero-order hold for A, Euler for B).

    Args:
        u: (batch, length, channels), float32, bfloat16, float16 or float64.
        delta: as u. delta, B, C and z have the dtype of u.
        A: (channels, N), float32 (float64 beside float64); lower precision is widened. So for D, delta_bias and states.
        B, C: (batch, length, N), or (batch, length, groups, N): group g serves channels / groups neighbouring channels.
        D: (channels), or None. z: as u, or None: no gate. delta_bias: (channels), or None.
        delta_softplus: apply softplus to delta + delta_bias.
        initial_state: (batch, channels, N), or None for zeros; (sequences, channels, N) with `cu_seqlens`.
        return_final_state: also return the state after the last step.
        order: (routes, steps) int32, positions in [0, length): route k reads u at order[k, t] in step t and adds its
            output there; outputs of the routes add up, and z gates the sum. Then routes are explicit everywhere:
            delta (batch, routes, P, channels), A (routes, channels, N), B and C (batch, routes, P, N) or
            (batch, routes, P, groups, N), D and delta_bias (routes, channels), states
            (batch, routes, channels, N), where P is length.
        step_params: with `order`: P is the number of steps; delta, B and C are taken at the step, not the position.
        cu_seqlens: (sequences + 1) int32 offsets of sequences packed in batch 1, from 0 to the number of steps.
        reverse: take the steps from the last to the first (of each sequence): h_t comes from h_(t+1). initial_state
            then stands after the last position, the final state before the first. No flipped copies are made.

    Returns:
        y as u; with `return_final_state`, (y, final_state) where final_state is as initial_state and float32.

    Raises:
        ValueError: a wrong shape, dtype, device or value, with the argument, what was expected and what came.

    """
    routed = order is not None
    batch, params = ("batch, routes, P", "routes, ") if routed else ("batch, length", "")
    check_rank(_NAME, "u", u, "(batch, length, channels)")
    check_rank(_NAME, "delta", delta, f"({batch}, channels)")
    check_rank(_NAME, "A", A, f"({params}channels, N)")
    check_rank(_NAME, "B", B, f"({batch}, N)", f"({batch}, groups, N)")
    check_rank(_NAME, "C", C, f"({batch}, N)", f"({batch}, groups, N)")
    check_rank(_NAME, "D", D, f"({params}channels)")
    check_rank(_NAME, "delta_bias", delta_bias, f"({params}channels)")
    check_rank(_NAME, "initial_state", initial_state, f"(sequences, {params}channels, N)")
    grouped = 5 if routed else 4
    if B.dim() < grouped:
        B = B.unsqueeze(-2)
    if C.dim() < grouped:
        C = C.unsqueeze(-2)
    if not routed:
        delta, B, C = delta.unsqueeze(1), B.unsqueeze(1), C.unsqueeze(1)
        A = A.unsqueeze(0)
        D = None if D is None else D.unsqueeze(0)
        delta_bias = None if delta_bias is None else delta_bias.unsqueeze(0)
        initial_state = None if initial_state is None else initial_state.unsqueeze(1)
    y, final_state, _ = torch.ops.mambasdk.selective_scan(
        u=u,
        delta=delta,
        A=widen(A, u),
        B=B,
        C=C,
        D=widen(D, u),
        z=z,
        delta_bias=widen(delta_bias, u),
        initial_state=widen(initial_state, u),
        order=order,
        cu_seqlens=cu_seqlens,
        delta_softplus=delta_softplus,
        step_params=step_params,
        return_final_state=return_final_state,
        reverse=reverse,
    )
    if not return_final_state:
        return y
    return y, final_state if routed else final_state.squeeze(1)


@typed
def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """One step of `selective_scan`, for decoding.

    Args:
        state: (batch, channels, N), float32 (float64 beside float64).
        x, dt: (batch, channels). A: (channels, N). B, C: (batch, N) or (batch, groups, N).
        D, delta_bias: (channels), or None. z: (batch, channels), or None.
        delta_softplus: apply softplus to dt + delta_bias.

    Returns:
        (y (batch, channels), the new state); `state` itself is left as it is.

    Raises:
        ValueError: a wrong shape, dtype or device.

    """
    name = "selective_state_update"
    check_rank(name, "state", state, "(batch, channels, N)")
    check_rank(name, "x", x, "(batch, channels)")
    check_rank(name, "B", B, "(batch, N)", "(batch, groups, N)")
    check_rank(name, "C", C, "(batch, N)", "(batch, groups, N)")
    y, new_state = torch.ops.mambasdk.selective_state_update(
        state=widen(state, x),
        x=x,
        delta=dt,
        A=widen(A, x),
        B=B.unsqueeze(-2) if B.dim() == 2 else B,
        C=C.unsqueeze(-2) if C.dim() == 2 else C,
        D=widen(D, x),
        z=z,
        delta_bias=widen(delta_bias, x),
        delta_softplus=delta_softplus,
    )
    return y, new_state


@typed
def diagonal_scan(
    b: Tensor,
    a: Tensor,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    return_final_state: bool = False,
) -> Any:
    """The recurrence `x_t = a_t * x_(t-1) + b_t`, real or complex: the base of S4D, S5, LRU and HGRN. Differentiable.

    Source: arXiv 2206.11893 (S4D, constant a), arXiv 2208.04933 (S5), arXiv 2303.06349 (LRU).

    Args:
        b: (batch, length, channels), float32, bfloat16, float16, float64 or complex64; the others have its dtype.
        a: (channels) constant, (length, channels) or (batch, length, channels); each dim may also be 1.
        initial_state: (batch, channels), or None for zeros.
        reverse: `x_t = a_t * x_(t+1) + b_t`, from the last step to the first; initial_state is then after the end.
        return_final_state: also return the state after the last step taken.

    Returns:
        x as b; with `return_final_state`, (x, final_state (batch, channels)).

    Raises:
        ValueError: a wrong shape, dtype or device, with the argument, what was expected and what came.

    """
    name = "diagonal_scan"
    check_rank(name, "b", b, "(batch, length, channels)")
    check_rank(name, "a", a, "(channels)", "(length, channels)", "(batch, length, channels)")
    x, final_state = torch.ops.mambasdk.diagonal_scan(
        b=b,
        a=a[(None,) * (3 - a.dim())],
        initial_state=initial_state,
        reverse=reverse,
        return_final_state=return_final_state,
    )
    return (x, final_state) if return_final_state else x

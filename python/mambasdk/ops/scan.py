"""The selective scan of Mamba, over whole sequences and for one step, and the plain diagonal recurrence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.ops._arguments import check_rank, widen, widen_state
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
        delta: as u. B and C have the dtype of u; delta and z have it too, or are float32 beside a 16-bit u.
        A: (channels, N), float32 (float64 beside float64); lower precision is widened. So for D, delta_bias and states.
            Or complex, see below.
        B, C: (batch, length, N), or (batch, length, groups, N): group g serves channels / groups neighbouring channels.
            Or constant in time, (channels, N): every channel has its own, in the dtype of u or of A.
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

    With a complex A (complex64; complex128 beside float64), B, C and initial_state are complex too, and u, delta, D and
    z real: A holds one of each pair of conjugate states, so `y_t = 2 * Re(sum of C_t * h_t) + D * u_t`. It is made
    from `diagonal_scan` with every state kept, (batch, length, channels, N); there `order`, `cu_seqlens` and B or C
    with a routes dim are not taken.

    Returns:
        y as u; with `return_final_state`, (y, final_state) where final_state is as initial_state and float32.

    Raises:
        ValueError: a wrong shape, dtype, device or value, with the argument, what was expected and what came.

    """
    if A.is_complex():
        if order is not None or cu_seqlens is not None or step_params:
            raise InvalidArgumentError(
                "a complex A takes no order, step_params or cu_seqlens",
                where=_NAME,
                way_out="scan the sequences one by one, or give A, B and C as real tensors",
            )
        return _complex_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, return_final_state,
                             reverse)  # fmt: skip
    routed = order is not None
    batch, params = ("batch, routes, P", "routes, ") if routed else ("batch, length", "")
    check_rank(_NAME, "u", u, "(batch, length, channels)")
    check_rank(_NAME, "delta", delta, f"({batch}, channels)")
    check_rank(_NAME, "A", A, f"({params}channels, N)")
    constant = () if routed else ("(channels, N)",)
    check_rank(_NAME, "B", B, f"({batch}, N)", f"({batch}, groups, N)", *constant)
    check_rank(_NAME, "C", C, f"({batch}, N)", f"({batch}, groups, N)", *constant)
    check_rank(_NAME, "D", D, f"({params}channels)")
    check_rank(_NAME, "delta_bias", delta_bias, f"({params}channels)")
    check_rank(_NAME, "initial_state", initial_state, f"(sequences, {params}channels, N)")
    if not routed and 2 in (B.dim(), C.dim()):
        wide = torch.promote_types(u.dtype, torch.promote_types(B.dtype, C.dtype))
        y, final_state = selective_scan(
            u.to(wide),
            delta.to(wide),
            A,
            _per_channel("B", B, u).to(wide),
            _per_channel("C", C, u).to(wide),
            D,
            None if z is None else z.to(wide),
            delta_bias,
            delta_softplus,
            initial_state,
            True,
            cu_seqlens=cu_seqlens,
            reverse=reverse,
        )
        return (y.to(u.dtype), final_state) if return_final_state else y.to(u.dtype)
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


def _per_channel(name: str, t: Tensor, u: Tensor) -> Tensor:
    """B or C with a group per channel, (batch, length, channels, N), without memory of its own."""
    batch, length, channels = u.shape
    if t.dim() == 2:  # constant in time
        if t.shape[0] != channels:
            raise ShapeError(
                f"{name} is constant in time", where=_NAME, expected=f"({channels}, N)", got=tuple(t.shape)
            )
        return t.expand(batch, length, channels, t.shape[1])
    if t.dim() == 3:
        return t.unsqueeze(2).expand(batch, length, channels, t.shape[2])
    return t.repeat_interleave(channels // max(t.shape[2], 1), 2)


def _complex_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    initial_state: Tensor | None,
    return_final_state: bool,
    reverse: bool,
) -> Any:
    check_rank(_NAME, "u", u, "(batch, length, channels)")
    check_rank(_NAME, "delta", delta, "(batch, length, channels)")
    check_rank(_NAME, "A", A, "(channels, N)")
    for name, t in (("B", B), ("C", C)):
        check_rank(_NAME, name, t, "(channels, N)", "(batch, length, N)", "(batch, length, groups, N)")
    wide = torch.complex128 if u.dtype == torch.float64 else torch.complex64
    real = torch.float64 if u.dtype == torch.float64 else torch.float32
    batch, length, channels = u.shape
    states = A.shape[1]

    def per_channel(t: Tensor) -> Tensor:  # (B, L, D or 1, N)
        if t.dim() == 4:
            return t.to(wide).repeat_interleave(channels // max(t.shape[2], 1), 2)
        return t.to(wide).unsqueeze(2) if t.dim() == 3 else t.to(wide)[None, None]

    dt = delta.to(real)  # (B, L, D)
    if delta_bias is not None:
        dt = dt + delta_bias.to(real)
    if delta_softplus:
        dt = softplus(dt)
    decay = torch.exp(dt.unsqueeze(-1) * A.to(wide))  # (B, L, D, N)
    driven = (dt * u.to(real)).unsqueeze(-1) * per_channel(B)
    before = None if initial_state is None else initial_state.to(wide).flatten(1)
    h, last = torch.ops.mambasdk.diagonal_scan(
        b=driven.expand_as(decay).reshape(batch, length, channels * states),
        a=decay.reshape(batch, length, channels * states),
        initial_state=before,
        reverse=reverse,
        return_final_state=True,
    )
    y = 2.0 * (h.view(batch, length, channels, states) * per_channel(C)).sum(-1).real
    if D is not None:
        y = y + D.to(real) * u.to(real)
    if z is not None:
        y = y * silu(z.to(real))
    y = y.to(u.dtype)
    return (y, last.view(batch, channels, states)) if return_final_state else y


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
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_indices: Tensor | None = None,
    pad_slot_id: int = -1,
) -> tuple[Tensor, Tensor]:
    """One step of `selective_scan`, for decoding.

    Args:
        state: (batch, channels, N), float32, bfloat16 or float16 (float64 beside float64); (slots, channels, N) with
            `state_indices`. The step is computed in float32 and rounded once to the state's dtype.
        x, dt: (batch, channels). A: (channels, N). B, C: (batch, N) or (batch, groups, N). B and C have the dtype of
            x; dt and z have it too, or are float32 beside a 16-bit x.
        D, dt_bias: (channels), or None. z: (batch, channels), or None.
        dt_softplus: apply softplus to dt + dt_bias.
        state_indices: (batch) int32: the slot of `state` that holds each row's state; no slot twice.
        pad_slot_id: the index of a padded row: it reads and writes no slot, its y is 0 and its gradients are 0.

    Returns:
        (y (batch, channels), the new state as `state`); `state` itself is left as it is, and slots of no row are the
        same in both.

    Raises:
        ValueError: a wrong shape, dtype, device or index.

    """
    name = "selective_state_update"
    check_rank(name, "state", state, "(batch, channels, N)")
    check_rank(name, "x", x, "(batch, channels)")
    check_rank(name, "B", B, "(batch, N)", "(batch, groups, N)")
    check_rank(name, "C", C, "(batch, N)", "(batch, groups, N)")
    y, new_state = torch.ops.mambasdk.selective_state_update(
        state=widen_state(state, x),
        x=x,
        delta=dt,
        A=widen(A, x),
        B=B.unsqueeze(-2) if B.dim() == 2 else B,
        C=C.unsqueeze(-2) if C.dim() == 2 else C,
        D=widen(D, x),
        z=z,
        delta_bias=widen(dt_bias, x),
        delta_softplus=dt_softplus,
        state_indices=state_indices,
        pad_slot_id=pad_slot_id,
    )
    return y, new_state


@typed
def diagonal_scan(
    b: Tensor,
    a: Tensor,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    return_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Any:
    """The recurrence `x_t = a_t * x_(t-1) + b_t`, real or complex: the base of S4D, S5, LRU and HGRN. Differentiable.

    Source: arXiv 2206.11893 (S4D, constant a), arXiv 2208.04933 (S5), arXiv 2303.06349 (LRU).

    Args:
        b: (batch, length, channels), float32, bfloat16, float16, float64 or complex64; the others have its dtype.
        a: (channels) constant, (length, channels) or (batch, length, channels); each dim may also be 1.
        initial_state: (batch, channels), or None for zeros; (sequences, channels) with `cu_seqlens`.
        reverse: `x_t = a_t * x_(t+1) + b_t`, from the last step to the first; initial_state is then after the end.
        return_final_state: also return the state after the last step taken.
        cu_seqlens: (sequences + 1) int32 offsets of sequences packed in batch 1, from 0 to length.

    Returns:
        x as b; with `return_final_state`, (x, final_state) where final_state is shaped as initial_state.

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
        cu_seqlens=cu_seqlens,
    )
    return (x, final_state) if return_final_state else x

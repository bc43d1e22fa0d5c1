"""Products with quasiseparable matrices by two scans, and these matrices themselves. Source: arXiv 2407.09941."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk import ops


class Direction(NamedTuple):
    """What the scan of one direction takes: dt (B, L, H) before bias and softplus, B and C (B, L, G, N)."""

    dt: Tensor
    B: Tensor
    C: Tensor


class Steps(NamedTuple):
    """What both directions share. A: (H), negative; dt_bias: (H); limit: of the step sizes, (low, high)."""

    A: Tensor
    dt_bias: Tensor
    limit: tuple[float, float] = (0.0, math.inf)


def quasiseparable(
    x: Tensor,  # (B, L, H, P)
    forward: Direction,
    backward: Direction,
    steps: Steps,
    *,
    initial_state: Tensor | None = None,  # (H, P, N), where the scans of both directions begin
    cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of the packed sequences
) -> Tensor:
    """Off-diagonal part of the product, (B, L, H, P): what each position hears of those before and of those after it.

    The scans read x where it lies, the backward one from its end, so nothing is flipped. Position t gets the output of
    its neighbour, C_(t-1) and the state up to t-1, and nothing at the end where the scan begins.
    """
    if initial_state is not None:
        count = x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
        initial_state = initial_state.expand(count, *initial_state.shape)
    past, future = (
        ops.ssd(
            x,
            one.dt,
            steps.A,
            one.B,
            one.C,
            dt_bias=steps.dt_bias,
            dt_softplus=True,
            dt_limit=steps.limit,
            initial_state=initial_state,
            cu_seqlens=cu_seqlens,
            reverse=reverse,
        )
        for one, reverse in ((forward, False), (backward, True))
    )
    past = functional.pad(past, (0, 0, 0, 0, 1, 0))[:, :-1]  # o_(t-1)
    future = functional.pad(future, (0, 0, 0, 0, 0, 1))[:, 1:]  # o_(t+1)
    if cu_seqlens is not None:
        edges = torch.zeros(x.shape[1] + 1, dtype=torch.bool, device=x.device)
        edges = edges.index_fill(0, cu_seqlens.to(torch.int64), True)[:, None, None]  # (L+1, 1, 1)
        past = torch.where(edges[:-1], 0, past)
        future = torch.where(edges[1:], 0, future)
    return past + future


def quasiseparable_matrix(
    forward: Direction, backward: Direction, steps: Steps, diagonal: Tensor
) -> Tensor:  # (B, H, L, L)
    """The matrix whose product with x is `quasiseparable` plus `diagonal` (B, L, H) times x, in float32 or wider.

    For i > j it has C_(i-1) B_j delta_j exp(A (delta_(j+1) + … + delta_(i-1))); for i < j its mirror image.
    """
    below = _strictly_lower(forward, steps)
    above = _strictly_lower(Direction(*(part.flip(1) for part in backward)), steps).flip(2, 3)
    return below + above + torch.diag_embed(diagonal.transpose(1, 2))


def _strictly_lower(one: Direction, steps: Steps) -> Tensor:
    heads = one.dt.shape[-1]
    B, C = (part.repeat_interleave(heads // part.shape[2], 2).transpose(1, 2) for part in (one.B, one.C))
    delta = functional.softplus(one.dt.to(steps.dt_bias.dtype) + steps.dt_bias).clamp(*steps.limit)
    delta = delta.transpose(1, 2)  # (B, H, L)
    decay = (delta * steps.A[:, None]).cumsum(-1)
    # Row i here is the output of step i; the next position hears it.
    kept = (decay.unsqueeze(-1) - decay.unsqueeze(-2)).tril().exp().tril()
    matrix = (C @ B.transpose(-1, -2)) * kept * delta.unsqueeze(-2)  # (B, H, L, L)
    return functional.pad(matrix, (0, 0, 1, 0))[:, :, :-1]

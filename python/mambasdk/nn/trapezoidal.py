"""The recurrence of Mamba-3 between the projections: trapezoidal steps, turning keys and queries, several ranks.

With log decay a, g = lam dt, b = (1 - lam) dt, the state of a head is

    S_t = e^(a_t) (S_(t-1) + b_t sum_r v_(t-1,r) k_(t-1,r)^T) + g_t sum_r v_(t,r) k_(t,r)^T
    y_(t,r) = S_t q_(t,r) + D v_(t,r)

where k and q are turned by angles that add up over time (arXiv 2603.15569). An input enters twice, now with weight g_t
and one step later with b_(t+1), so one scan of s_t v_t with s_t = g_t + b_(t+1) makes the state; what it gives a step
too early is taken from the outputs again. Ranks are steps that follow one another without decay.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk import ops
from mambasdk.nn.state import register_layer_state
from mambasdk.nn.turning import turned


@register_layer_state("mamba3")
class Mamba3State(NamedTuple):
    """State of one Mamba-3 mixer after the last token.

    angle: how far keys and queries have turned, in radians, [-pi, pi]. ssm: the scan's state. k: the keys, turned and
    with their bias. v: the scan's input before `mimo_x`. R is the rank, 1 in SISO.
    """

    angle: Tensor  # (B, H, S) float32
    ssm: Tensor  # (B, H, P, N) float32
    k: Tensor  # (B, R, H, N)
    v: Tensor  # (B, H, P)


class TrapezoidalInputs(NamedTuple):
    """What the recurrence reads, for each token."""

    x: Tensor  # (B, L, H, P): v, before mimo_x
    B: Tensor  # (B, L, R, G, N): keys before bias and rotation
    C: Tensor  # (B, L, R, G, N): queries, likewise
    dt: Tensor  # (B, L, H): step sizes
    log_decay: Tensor  # (B, L, H): a, at most 0
    trap: Tensor  # (B, L, H): lam before the sigmoid
    rates: Tensor  # (B, L, H or 1, S): radians per unit of dt


class TrapezoidalWeights(NamedTuple):
    """What it reads beside the tokens."""

    B_bias: Tensor  # (H, R, N)
    C_bias: Tensor  # (H, R, N)
    D: Tensor  # (H)
    mimo_x: Tensor | None = None  # (H, R, P); None: v is x


def trapezoidal_ssd(
    inputs: TrapezoidalInputs,
    weights: TrapezoidalWeights,
    state: Mamba3State | None = None,
    *,
    interleaved: bool,
    cu_seqlens: Tensor | None = None,
    return_state: bool = False,
) -> tuple[Tensor, Mamba3State | None]:
    """(y (B, L, R, H, P) as x, the state after the last token where asked), differentiable, also in `state`.

    interleaved: the pairs that turn are channels (2i, 2i+1), else (i, i + N/2), i < S. cu_seqlens: (S+1) int32, offsets
    of the sequences packed in batch 1. dt, log_decay, trap and rates are float32, or float64 beside a float64 x.
    """
    x = inputs.x
    rank = inputs.B.shape[2]
    if x.shape[1] == 0:
        y = x.new_zeros((x.shape[0], 0, rank, *x.shape[2:]))
        return y, _unchanged(inputs, state, cu_seqlens) if return_state else None
    along = _Dense() if cu_seqlens is None else _Packed(cu_seqlens, x.shape[1])
    now = torch.sigmoid(inputs.trap) * inputs.dt  # (B, L, H): g
    later = torch.sigmoid(-inputs.trap) * inputs.dt  # (B, L, H): b
    following = along.following(later)
    weight = now + following  # (B, L, H): s
    turns = inputs.dt.unsqueeze(-1) * inputs.rates  # (B, L, H, S)
    angle = along.running_sum(turns, None if state is None else state.angle)  # (B, L, H, S)
    with torch.no_grad():  # the derivative of what is turned needs none of them
        cos, sin = angle.cos().unsqueeze(2), angle.sin().unsqueeze(2)  # (B, L, 1, H, S)
    k, q = (
        turned(small, bias.transpose(0, 1), angle, cos, sin, interleaved)  # (B, L, R, H, N)
        for small, bias in ((inputs.B, weights.B_bias), (inputs.C, weights.C_bias))
    )
    scanned = ops.ssd(
        _values(weight.unsqueeze(-1) * x, weights.mimo_x).flatten(1, 2).to(x.dtype),
        functional.pad(-inputs.log_decay.unsqueeze(2), (0, 0, 0, rank - 1)).flatten(1, 2),  # (B, L*R, H)
        inputs.log_decay.new_full((x.shape[2],), -1.0),
        k.flatten(1, 2),
        q.flatten(1, 2),
        dt_on_x=False,
        initial_state=None if state is None else _with_last_input(state, weights.mimo_x, along.first(later)),
        cu_seqlens=None if cu_seqlens is None else cu_seqlens * rank,
        return_final_state=return_state,
    )
    new_state = None
    if return_state:
        scanned, ssm = scanned
        new_state = Mamba3State(
            _within_a_turn(along.last(angle, None if state is None else state.angle)),
            ssm,
            along.last(k, None if state is None else state.k),
            along.last(x, None if state is None else state.v),
        )
    if weights.mimo_x is None:
        own = weights.D - following * _products(inputs, weights).flatten(-3)  # (B, L, H)
        y = (scanned + own.unsqueeze(-1) * x).unsqueeze(2)
    else:
        factors = _own(inputs, weights, weights.mimo_x, now, weight)
        y = torch.unflatten(scanned, 1, (-1, rank)) + factors * x.unsqueeze(2)
    return y.to(x.dtype), new_state


def _values(x: Tensor, mimo_x: Tensor | None) -> Tensor:
    """(B, L, H, P) -> (B, L, R, H, P)."""
    return x.unsqueeze(2) if mimo_x is None else x.unsqueeze(2) * mimo_x.transpose(0, 1)


def _products(inputs: TrapezoidalInputs, weights: TrapezoidalWeights) -> Tensor:
    """q_(t,r) . k_(t,r') -> (B, L, H, R, R), which no rotation changes: from the parts, before heads multiply them."""
    heads, rank, states = weights.B_bias.shape
    groups = inputs.B.shape[3]
    if rank == groups == 1:  # the same as below, in dense layers
        own_k, own_q = weights.B_bias.squeeze(1), weights.C_bias.squeeze(1)  # (H, N)
        C, B = (part.flatten(2).to(own_k.dtype) for part in (inputs.C, inputs.B))  # (B, L, N)
        mixed = functional.linear(C, own_k) + functional.linear(B, own_q)  # (B, L, H)
        alone = (C * B).sum(-1, keepdim=True) + (own_q * own_k).sum(-1)
        return (mixed + alone)[..., None, None]
    own_k, own_q = (
        bias.reshape(groups, heads // groups, rank, states) for bias in (weights.B_bias, weights.C_bias)
    )  # (G, J, R, N)
    C, B = inputs.C.to(own_q.dtype), inputs.B.to(own_k.dtype)
    shared = torch.einsum("blrgn,blsgn->blgrs", C, B).unsqueeze(3)
    mixed = torch.einsum("blrgn,gjsn->blgjrs", C, own_k) + torch.einsum("gjrn,blsgn->blgjrs", own_q, B)
    return (shared + mixed + torch.einsum("gjrn,gjsn->gjrs", own_q, own_k)).flatten(2, 3)


def _own(inputs: TrapezoidalInputs, weights: TrapezoidalWeights, mimo_x: Tensor, now: Tensor, weight: Tensor) -> Tensor:
    """What the outputs of a step lack of its own x, as factors (B, L, R, H, P).

    In the scan each rank has read the ranks up to its own, with weight s; it should read all with g. And D.
    """
    read = _products(inputs, weights)  # (B, L, H, R, R)
    coefficients = now[..., None, None] * read - weight[..., None, None] * read.tril()
    mixed = torch.einsum("blhrs,hsp->blrhp", coefficients, mimo_x)
    return mixed + (weights.D[:, None, None] * mimo_x).transpose(0, 1)


def _with_last_input(state: Mamba3State, mimo_x: Tensor | None, later: Tensor) -> Tensor:
    """The state (B, H, P, N) that the next token decays: the last input enters it with that token's b (B, H)."""
    v = (later.unsqueeze(-1) * state.v).unsqueeze(1)  # (B, 1, H, P)
    v = v if mimo_x is None else v * mimo_x.transpose(0, 1)  # (B, R, H, P)
    return state.ssm + torch.matmul(v.permute(0, 2, 3, 1), state.k.to(v.dtype).transpose(1, 2))


def _within_a_turn(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi]."""
    return angle - 2 * math.pi * torch.round(angle / (2 * math.pi))


def _unchanged(inputs: TrapezoidalInputs, state: Mamba3State | None, cu_seqlens: Tensor | None) -> Mamba3State:
    """The state of no token."""
    if state is not None:
        return state
    _, _, heads, head_dim = inputs.x.shape
    _, _, rank, _, states = inputs.B.shape
    sequences = inputs.x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    dt = inputs.dt
    return Mamba3State(
        dt.new_zeros(sequences, heads, inputs.rates.shape[-1]),
        dt.new_zeros(sequences, heads, head_dim, states),
        inputs.x.new_zeros(sequences, rank, heads, states),
        inputs.x.new_zeros(sequences, heads, head_dim),
    )


class _Dense:
    """Each row of a batch (B, L, …) is a sequence."""

    def first(self, x: Tensor) -> Tensor:
        """(B, L, …) -> (B, …)."""
        return x[:, 0]

    def last(self, x: Tensor, before: Tensor | None) -> Tensor:
        """(B, L, …) -> (B, …)."""
        return x[:, -1]

    def following(self, x: Tensor) -> Tensor:
        """Of each token the value of the next (B, L, H), 0 at the end."""
        return functional.pad(x[:, 1:], (0, 0, 0, 1))

    def running_sum(self, x: Tensor, start: Tensor | None) -> Tensor:
        """(B, L, …) summed up to each token, its own included, from `start` (B, …) on."""
        total = x.cumsum(1)
        return total if start is None else total + start.unsqueeze(1)


class _Packed(_Dense):
    """Sequences one after another in batch 1; empty ones have zeros, or what they had before."""

    def __init__(self, cu_seqlens: Tensor, length: int) -> None:
        offsets = cu_seqlens.to(torch.int64)  # (S+1)
        self.starts, self.ends = offsets[:-1], offsets[1:]
        self.empty = self.starts == self.ends
        self.final = length - 1
        places = torch.arange(length, device=cu_seqlens.device)
        self.sequence = torch.bucketize(places, self.ends, right=True)  # (L): which sequence a token is of

    def first(self, x: Tensor) -> Tensor:
        """(1, L, …) -> (S, …)."""
        return self._taken(x, self.starts.clamp(max=self.final), None)

    def last(self, x: Tensor, before: Tensor | None) -> Tensor:
        """(1, L, …) -> (S, …)."""
        return self._taken(x, (self.ends - 1).clamp(min=0), before)

    def _taken(self, x: Tensor, places: Tensor, before: Tensor | None) -> Tensor:
        found = x.squeeze(0).index_select(0, places)
        empty = self.empty.reshape(-1, *[1] * (found.ndim - 1))
        return torch.where(empty, found.new_zeros(()) if before is None else before.to(found.dtype), found)

    def following(self, x: Tensor) -> Tensor:
        """See _Dense."""
        same = functional.pad(self.sequence.diff() == 0, (0, 1))  # (L)
        return torch.where(same[:, None], super().following(x), x.new_zeros(()))

    def running_sum(self, x: Tensor, start: Tensor | None) -> Tensor:
        """See _Dense. In float64: what lies before a sequence is taken away again."""
        total = x.cumsum(1, dtype=torch.float64)
        before = functional.pad(total, (0, 0, 0, 0, 1, 0)).squeeze(0).index_select(0, self.starts)  # (S, …)
        offset = -before if start is None else start - before
        return (total + offset.index_select(0, self.sequence)).to(x.dtype)

"""The mLSTM in plain PyTorch, in its parallel and its chunkwise form: what `mambasdk.ops.mlstm` is held against.

Source: arXiv 2405.04517, appendix A.3. Both are differentiable and compute in the dtype that they are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk.ops import MLSTMMemory

EPSILON = 1e-6  # beside the normaliser


def mlstm_parallel(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor) -> Tensor:
    """All pairs of steps at once, from the zero state: time and memory grow with the square of the length.

    q, k, v: (B, L, H, E). igate, fgate: (B, L, H), before their functions. Returns h (B, L, H, E).
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, L, E)
    gates, inputs = (x.transpose(1, 2) for x in (functional.logsigmoid(fgate), igate))  # (B, H, L)
    total = gates.cumsum(-1)
    weights = total.unsqueeze(-1) - total.unsqueeze(-2) + inputs.unsqueeze(-2)  # (B, H, L, L): logarithms
    seen = torch.ones(weights.shape[-2:], dtype=torch.bool, device=q.device).tril()
    weights = weights.masked_fill(~seen, -math.inf)
    m = weights.amax(-1, keepdim=True)  # (B, H, L, 1)
    scores = (q @ k.mT) * torch.exp(weights - m) / math.sqrt(q.shape[-1])
    return (scores @ v / _divisor(scores.sum(-1, keepdim=True), m)).transpose(1, 2)


def mlstm_chunkwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate: Tensor,
    fgate: Tensor,
    initial_state: tuple[Tensor, Tensor, Tensor] | None = None,
    *,
    chunk: int = 64,
) -> tuple[Tensor, MLSTMMemory]:
    """The parallel form within chunks, the recurrence across them: memory is linear in the length.

    q, k, v: (B, L, H, E). igate, fgate: (B, L, H), before their functions. initial_state: C (B, H, E, E), n (B, H, E)
    and m (B, H), or None for C = 0, n = 0, m = -inf. chunk: steps of a chunk. Returns h (B, L, H, E) and the state
    after the last step. Raises InvalidArgumentError.
    """
    if chunk < 1:
        raise InvalidArgumentError("bad chunk", where="mlstm_chunkwise", expected="1 or more", got=chunk)
    batch, _, heads, width = q.shape
    if initial_state is None:
        initial_state = (
            q.new_zeros(batch, heads, width, width),
            q.new_zeros(batch, heads, width),
            q.new_full((batch, heads), -math.inf),
        )
    state, rows = MLSTMMemory(*initial_state), []
    for start in range(0, q.shape[1], chunk):
        parts = [x[:, start : start + chunk] for x in (q, k, v, igate, fgate)]
        h, state = _chunk(parts, state)
        rows.append(h)
    return (torch.cat(rows, 1) if rows else torch.zeros_like(q)), state


def _chunk(parts: Sequence[Tensor], state: MLSTMMemory) -> tuple[Tensor, MLSTMMemory]:
    """One chunk, q, k, v (B, T, H, E) and both gates (B, T, H), and the state after it."""
    q, k, v, igate, fgate = parts
    q, k, v = (x.transpose(1, 2) for x in (q, k / math.sqrt(k.shape[-1]), v))  # (B, H, T, E)
    inputs, total = (x.transpose(1, 2) for x in (igate, functional.logsigmoid(fgate).cumsum(1)))  # (B, H, T)
    weights = total.unsqueeze(-1) - total.unsqueeze(-2) + inputs.unsqueeze(-2)  # (B, H, T, T): logarithms
    seen = torch.ones(weights.shape[-2:], dtype=torch.bool, device=q.device).tril()
    weights = weights.masked_fill(~seen, -math.inf)
    before = total + state.m.unsqueeze(-1)  # (B, H, T): of the state before the chunk
    m = torch.maximum(weights.amax(-1), before)
    scores = (q @ k.mT) * torch.exp(weights - m.unsqueeze(-1))
    carried = torch.exp(before - m).unsqueeze(-1)
    values = scores @ v + carried * (q @ state.C.mT)  # (B, H, T, E)
    sums = scores.sum(-1, keepdim=True) + carried * (q @ state.n.unsqueeze(-1))
    h = values / _divisor(sums, m.unsqueeze(-1))
    last = torch.exp(weights[..., -1, :] - m[..., -1:]).unsqueeze(-1)  # (B, H, T, 1)
    through = carried[..., -1, :]  # (B, H, 1)
    C = through.unsqueeze(-1) * state.C + (last * v).mT @ k
    n = through * state.n + (last * k).sum(-2)
    return h.transpose(1, 2), MLSTMMemory(C, n, m[..., -1])


def _divisor(normaliser: Tensor, m: Tensor) -> Tensor:
    return torch.maximum(normaliser.abs(), torch.exp(-m)) + EPSILON

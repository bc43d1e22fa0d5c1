"""causal_conv1d and its update against loops in NumPy: widths, seq_idx, residual, pools, rings, dtypes of states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawn import Array, draw, exact
from tolerance import RELATIVE, error

from mambasdk import ops

pytestmark = pytest.mark.usefixtures("isa")

WIDTHS = (1, 2, 3, 4, 5, 8, 9, 17)


def activated(u: Array, silu: bool) -> Array:
    return u / (1 + np.exp(-u)) if silu else u


def convolved(window: Array, weight: Array, bias: Array, silu: bool) -> Array:
    """One step of one row: window (K, D), the newest last."""
    u = bias.copy()
    for k in range(weight.shape[1]):
        u = u + weight[:, k] * window[k]
    return activated(u, silu)


def convolution(x: Array, weight: Array, bias: Array, silu: bool, first: Array | None = None) -> Array:
    """One sequence x (L, D)."""
    K, D = weight.shape[1], x.shape[1]
    padded = np.concatenate([np.zeros((K - 1, D)) if first is None else first, x])
    rows = [convolved(padded[t : t + K], weight, bias, silu) for t in range(len(x))]
    return np.stack(rows) if rows else x


def close(actual: torch.Tensor, expected: Array, what: str = "") -> None:
    found = error(actual, torch.from_numpy(np.ascontiguousarray(expected)))
    assert actual.shape == expected.shape, what
    assert found <= RELATIVE[actual.dtype] * 1.01, f"{what}: {found}"


@pytest.mark.parametrize("K", WIDTHS)
@pytest.mark.parametrize("silu", [False, True])
def test_every_width_and_its_update(K: int, silu: bool) -> None:
    x, weight, bias = draw(2, 150, 37), draw(37, K), draw(37)
    y, state = ops.causal_conv1d(x, weight, bias, silu=silu, return_final_state=True)
    for b in range(2):
        close(y[b], convolution(exact(x[b]), exact(weight), exact(bias), silu))
    assert torch.equal(state, x[:, 150 - (K - 1) :])
    step = draw(2, 37, seed=1)
    after, moved = ops.causal_conv1d_update(state, step, weight, bias, silu=silu)
    whole = ops.causal_conv1d(torch.cat([x, step[:, None]], 1), weight, bias, silu=silu)
    torch.testing.assert_close(after, whole[:, -1], atol=1e-5, rtol=1e-5)
    assert torch.equal(moved, torch.cat([state, step[:, None]], 1)[:, 1:])


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="causal_conv1d: weight has 0 taps, expected at least 1"):
        ops.causal_conv1d(draw(1, 3, 2), draw(2, 0))


SEGMENTS = [
    [0, 0, 0, 1, 1, 2, 2, 2, 2, 2],
    [-1, -1, 5, 5, 5, 5, 3, -1, -1, -1],
    [4, -1, 4, -1, -1, 0, 0, 0, 1, -1],
    [-1] * 10,
]


@pytest.mark.parametrize("K", [1, 2, 4, 6, 9])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_seq_idx_is_sequences_apart_and_padding_is_nothing(K: int, reverse: bool, dtype: torch.dtype) -> None:
    seq_idx = torch.tensor(SEGMENTS, dtype=torch.int32)
    B, L = seq_idx.shape
    x, weight, bias, residual = draw(B, L, 19, dtype=dtype), draw(19, K), draw(19), draw(B, L, 19, seed=1, dtype=dtype)
    weight, bias = (weight.double(), bias.double()) if dtype == torch.float64 else (weight, bias)
    start = draw(B, K - 1, 19, seed=2, dtype=dtype)
    poisoned = torch.where((seq_idx == -1)[..., None], torch.nan, x)
    y, final = ops.causal_conv1d(
        poisoned, weight, bias, start, silu=True, return_final_state=True, reverse=reverse, seq_idx=seq_idx,
        residual=residual,
    )  # fmt: skip
    for b in range(B):
        ids, xs, rs = (exact(t[b]) for t in (seq_idx, x, residual))
        if reverse:
            ids, xs, rs = ids[::-1], xs[::-1], rs[::-1]
        expected, state, fresh = np.zeros((L, 19)), exact(start[b]), True
        t = 0
        while t < L:
            end = t
            while end < L and ids[end] == ids[t]:
                end += 1
            if ids[t] != -1:
                state = state if fresh else np.zeros_like(state)
                expected[t:end] = convolution(xs[t:end], exact(weight), exact(bias), True, state) + rs[t:end]
                state = np.concatenate([state, xs[t:end]])[end - t :]
                fresh = False
            t = end
        close(y[b], expected[::-1] if reverse else expected, f"row {b}")
        close(final[b], state, f"state {b}")


def test_seq_idx_gradients_do_not_cross() -> None:
    seq_idx = torch.tensor(SEGMENTS, dtype=torch.int32)
    x = draw(4, 10, 5).requires_grad_()
    weight, residual = draw(5, 4).requires_grad_(), draw(4, 10, 5).requires_grad_()
    y = ops.causal_conv1d(x, weight, silu=True, seq_idx=seq_idx, residual=residual)
    y[1, 3].sum().backward()
    assert x.grad is not None
    assert residual.grad is not None
    assert x.grad[1, 2:4].all()
    x.grad[1, 2:4] = 0
    assert not x.grad.any()
    assert torch.equal(residual.grad.sum((0, 1)), torch.ones(5))
    padded = ops.causal_conv1d(x, weight, seq_idx=seq_idx, residual=residual)[seq_idx == -1]
    assert all(not g.any() for g in torch.autograd.grad(padded.sum(), (x, weight, residual)))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_the_residual_is_added_after_the_activation(reverse: bool, packed: bool) -> None:
    x, weight, residual = draw(1, 300, 70), draw(70, 4), draw(70, 300, 1, seed=3).transpose(0, 2)
    offsets = torch.tensor([0, 1, 140, 300], dtype=torch.int32) if packed else None
    options: dict[str, Any] = {"cu_seqlens": offsets, "silu": True, "reverse": reverse}
    y = ops.causal_conv1d(x, weight, residual=residual, **options)
    torch.testing.assert_close(y, ops.causal_conv1d(x, weight, **options) + residual, atol=1e-5, rtol=1e-5)


def stepped(
    pool: Array, slots: list[int], x: Array, weight: Array, bias: Array, silu: bool, seen: list[int] | None
) -> tuple[Array, Array]:
    """One step of every row; the pool after it."""
    K, M = weight.shape[1], pool.shape[1]
    y, pool = np.zeros_like(x), pool.copy()
    for b, slot in enumerate(slots):
        if slot == -1:
            continue
        if seen is None:
            window = np.concatenate([pool[slot], x[b : b + 1]])[M - K + 1 :]
            pool[slot] = np.concatenate([pool[slot], x[b : b + 1]])[1:]
        else:
            places = [(seen[b] - K + 1 + k) % M for k in range(K - 1)]
            window = np.concatenate([pool[slot][places], x[b : b + 1]])
            if M:
                pool[slot][seen[b] % M] = x[b]
        y[b] = convolved(window, weight, bias, silu)
    return y, pool


@pytest.mark.parametrize("K", [2, 3, 4, 9])
@pytest.mark.parametrize("more", [0, 1, 5])
@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(
    ("dtype", "state_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float16),
        (torch.float64, torch.float64),
    ],
)
def test_updates_of_pools_rings_and_longer_states(
    K: int, more: int, ring: bool, pooled: bool, dtype: torch.dtype, state_dtype: torch.dtype
) -> None:
    B, D, M = 4, 19, K - 1 + more
    slots = [5, -1, 0, 3] if pooled else list(range(B))
    pool = draw(7 if pooled else B, M, D, dtype=state_dtype)
    x = draw(B, D, dtype=dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    weight, bias = draw(D, K, dtype=wide), draw(D, dtype=wide)
    seen = [0, 1, 2 * M + 1, 17]
    before = pool.clone()
    y, new = ops.causal_conv1d_update(
        pool,
        x,
        weight,
        bias,
        silu=True,
        state_indices=torch.tensor(slots, dtype=torch.int32) if pooled else None,
        cache_seqlens=torch.tensor(seen, dtype=torch.int32) if ring else None,
    )
    expected, after = stepped(exact(pool), slots, exact(x), exact(weight), exact(bias), True, seen if ring else None)
    close(y, expected)
    assert new.dtype == state_dtype
    assert torch.equal(new, torch.from_numpy(after).to(state_dtype))
    assert torch.equal(pool, before)


@pytest.mark.parametrize("ring", [False, True])
def test_several_steps_at_once_are_steps_one_by_one(ring: bool) -> None:
    state, x, weight = draw(2, 5, 19), draw(2, 7, 19), draw(19, 4)
    seen = torch.tensor([3, 8], dtype=torch.int32) if ring else None
    y, new = ops.causal_conv1d_update(state, x, weight, cache_seqlens=seen)
    for t in range(7):
        row, state = ops.causal_conv1d_update(state, x[:, t], weight, cache_seqlens=None if seen is None else seen + t)
        assert torch.equal(y[:, t], row)
    assert torch.equal(new, state)


def test_a_ring_gives_what_a_whole_sequence_gives() -> None:
    x, weight = draw(2, 20, 19), draw(19, 4)
    state = torch.zeros(2, 6, 19)
    for t in range(20):
        seen = torch.full((2,), t, dtype=torch.int32)
        y, state = ops.causal_conv1d_update(state, x[:, t], weight, silu=True, cache_seqlens=seen)
        torch.testing.assert_close(y, ops.causal_conv1d(x[:, : t + 1], weight, silu=True)[:, -1], atol=1e-5, rtol=1e-5)


def test_wrong_indices_are_named() -> None:
    state, x, weight = draw(3, 3, 2), draw(2, 2), draw(2, 4)

    def call(**changed: Any) -> Any:
        given = {"state": state, "x": x, "weight": weight, **changed}
        return ops.causal_conv1d_update(**given)

    def integers(*values: int) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32)

    with pytest.raises(ValueError, match=r"state_indices\[1\] is 3, expected a slot in \[0, 3\)"):
        call(state_indices=integers(0, 3))
    with pytest.raises(ValueError, match=r"state_indices\[0\] is -2, expected a slot in \[0, 3\).*-1 for a padded row"):
        call(state_indices=integers(-2, 0))
    with pytest.raises(ValueError, match="state_indices has slot 2 more than once"):
        call(state_indices=integers(2, 2))
    with pytest.raises(ValueError, match=r"cache_seqlens\[1\] is -1, expected at least 0"):
        call(state=state[:2], cache_seqlens=integers(0, -1))
    with pytest.raises(ValueError, match="state holds 2 inputs, expected at least 3: K is 4 in weight"):
        call(state=state[:2, :2])
    with pytest.raises(ValueError, match="without state_indices its S must be B = 2"):
        call()
    with pytest.raises(ValueError, match=r"seq_idx\[0, 2\] is -2, expected"):
        ops.causal_conv1d(draw(1, 3, 2), weight, seq_idx=integers(0, 0, -2)[None])
    with pytest.raises(ValueError, match="got both cu_seqlens and seq_idx"):
        ops.causal_conv1d(draw(1, 3, 2), weight, seq_idx=integers(0, 0, 0)[None], cu_seqlens=integers(0, 3))

"""The public functions against the formulas of their papers, written plainly in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import loops
import pytest
import torch
from torch.nn import functional

from mambasdk import ops


@pytest.fixture
def randn() -> Callable[..., torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, grad: bool = False) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_(grad)

    return draw


# ---- selective scan ----


def _scan_inputs(
    randn: Any, groups: int | None = None, length: int = 37, channels: int = 12, N: int = 7
) -> dict[str, Any]:
    params = (2, length, N) if groups is None else (2, length, groups, N)
    return {
        "u": randn(2, length, channels),
        "delta": randn(2, length, channels) * 0.5,
        "A": -randn(channels, N).exp(),
        "B": randn(*params),
        "C": randn(*params),
        "D": randn(channels),
        "z": randn(2, length, channels),
        "delta_bias": randn(channels),
        "initial_state": randn(2, channels, N),
    }


@pytest.mark.parametrize("groups", [None, 1, 3])
def test_selective_scan(randn: Any, groups: int | None) -> None:
    inputs = {k: v.detach().requires_grad_() for k, v in _scan_inputs(randn, groups).items()}
    exact = {k: v.detach().double().requires_grad_() for k, v in inputs.items()}
    y, state = ops.selective_scan(**inputs, delta_softplus=True, return_final_state=True)
    expected, final = loops.selective_scan(**exact, delta_softplus=True, return_final_state=True)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state.double(), final, rtol=1e-4, atol=1e-4)
    weight, state_weight = torch.randn_like(y), torch.randn_like(state)
    ((y * weight).sum() + (state * state_weight).sum()).backward()
    ((expected * weight).sum() + (final * state_weight).sum()).backward()
    for name, leaf in inputs.items():
        torch.testing.assert_close(
            leaf.grad.double(), exact[name].grad, rtol=1e-3, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_selective_scan_in_pieces_equals_the_whole(randn: Any) -> None:
    inputs = _scan_inputs(randn)
    whole, final = ops.selective_scan(**inputs, delta_softplus=True, return_final_state=True)
    state, pieces = inputs["initial_state"], []
    for begin, end in ((0, 1), (1, 20), (20, 37)):
        part = {k: v[:, begin:end] if k in ("u", "delta", "B", "C", "z") else v for k, v in inputs.items()}
        y, state = ops.selective_scan(**{**part, "initial_state": state}, delta_softplus=True, return_final_state=True)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, final, rtol=1e-5, atol=1e-5)


def test_selective_state_update_steps_through_the_scan(randn: Any) -> None:
    inputs = _scan_inputs(randn, groups=3)
    whole, final = ops.selective_scan(**inputs, delta_softplus=True, return_final_state=True)
    state = inputs["initial_state"]
    for t in range(whole.shape[1]):
        at = {k: inputs[k][:, t] for k in ("B", "C", "z")}
        y, state = ops.selective_state_update(
            state,
            inputs["u"][:, t],
            inputs["delta"][:, t],
            inputs["A"],
            D=inputs["D"],
            dt_bias=inputs["delta_bias"],
            dt_softplus=True,
            **at,
        )
        torch.testing.assert_close(y, whole[:, t], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state, final, rtol=1e-4, atol=1e-4)


def test_packed_sequences_equal_separate_ones(randn: Any) -> None:
    lengths = (5, 1, 0, 13)
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    inputs = _scan_inputs(randn, length=sum(lengths))
    packed = {k: v[:1] if k in ("u", "delta", "B", "C", "z") else v for k, v in inputs.items()}
    states = randn(len(lengths), 12, 7)
    y, final = ops.selective_scan(
        **{**packed, "initial_state": states}, delta_softplus=True, return_final_state=True, cu_seqlens=offsets
    )
    for s, (begin, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        part = {k: v[:, begin:end] if k in ("u", "delta", "B", "C", "z") else v for k, v in packed.items()}
        alone, state = ops.selective_scan(
            **{**part, "initial_state": states[s : s + 1]}, delta_softplus=True, return_final_state=True
        )
        torch.testing.assert_close(y[:, begin:end], alone, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(final[s], state[0], rtol=1e-5, atol=1e-5)


def test_routes_are_scans_of_permuted_sequences(randn: Any) -> None:
    """Two routes, forwards and in a random order: gather, scan, scatter-add, then the gate."""
    B, L, D, N, K = 2, 19, 8, 4, 2
    u, z = randn(B, L, D), randn(B, L, D)
    delta, b, c = randn(B, K, L, D), randn(B, K, L, N), randn(B, K, L, N)
    A, skip, bias = -randn(K, D, N).exp(), randn(K, D), randn(K, D)
    order = torch.stack([torch.arange(L), torch.randperm(L)]).to(torch.int32)
    y = ops.selective_scan(u, delta, A, b, c, D=skip, z=z, delta_bias=bias, delta_softplus=True, order=order)
    total = torch.zeros_like(u)
    for k in range(K):
        at = order[k].long()
        part = loops.selective_scan(
            u[:, at], delta[:, k, at], A[k], b[:, k, at], c[:, k, at], skip[k], None, bias[k], True
        )
        total = total.index_add(1, at, part)
    torch.testing.assert_close(y, total * functional.silu(z), rtol=1e-4, atol=1e-4)
    by_step = ops.selective_scan(
        u, *(_rows(t, order) for t in (delta,)), A, _rows(b, order), _rows(c, order), D=skip, z=z, delta_bias=bias,
        delta_softplus=True, order=order, step_params=True,
    )  # fmt: skip
    torch.testing.assert_close(by_step, y, rtol=1e-5, atol=1e-5)


def _rows(t: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """(B, K, L, …) at the positions of each route."""
    return torch.stack([t[:, k, order[k].long()] for k in range(t.shape[1])], 1)


def test_low_precision_parameters_are_widened(randn: Any) -> None:
    inputs = {k: v.bfloat16() for k, v in _scan_inputs(randn).items()}
    y = ops.selective_scan(**inputs, delta_softplus=True)
    assert y.dtype == torch.bfloat16
    expected = loops.selective_scan(**inputs, delta_softplus=True)
    torch.testing.assert_close(y.float(), expected.float(), rtol=2e-2, atol=2e-2)


# ---- convolution ----


@pytest.mark.parametrize("width", [2, 4, 8])
def test_causal_conv1d(randn: Any, width: int) -> None:
    x, weight, bias = randn(2, 21, 10, grad=True), randn(10, width, grad=True), randn(10, grad=True)
    y, state = ops.causal_conv1d(x, weight, bias, silu=True, return_final_state=True)
    padded = functional.pad(x.mT, (width - 1, 0))
    expected = functional.silu(functional.conv1d(padded, weight.unsqueeze(1), bias, groups=10)).mT
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, x[:, 21 - (width - 1) :])
    grads = torch.autograd.grad(y.square().sum(), (x, weight, bias))
    for a, b in zip(grads, torch.autograd.grad(expected.square().sum(), (x, weight, bias)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_causal_conv1d_update_steps_through_the_sequence(randn: Any) -> None:
    x, weight, bias, state = randn(2, 9, 10), randn(10, 4), randn(10), randn(2, 3, 10)
    whole, final = ops.causal_conv1d(x, weight, bias, initial_state=state, silu=True, return_final_state=True)
    for t in range(9):
        y, state = ops.causal_conv1d_update(state, x[:, t], weight, bias, silu=True)
        torch.testing.assert_close(y, whole[:, t], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, final)


# ---- norms ----


def _normalised(kind: str, h: torch.Tensor, eps: float) -> torch.Tensor:
    if kind == "layer_norm":
        h = h - h.mean(-1, keepdim=True)
    return h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)


@pytest.mark.parametrize("kind", ["rms_norm", "layer_norm"])
@pytest.mark.parametrize("gate", [None, "before", "after"])
@pytest.mark.parametrize("group", [None, 8])
def test_norms(randn: Any, kind: str, gate: str | None, group: int | None) -> None:
    x, residual, weight, bias, z = randn(3, 5, 24), randn(3, 5, 24), randn(24), randn(24), randn(3, 5, 24)
    leaves = [t.requires_grad_() for t in (x, residual, weight, bias, z)]
    y, total = getattr(ops, kind)(
        x, weight, bias, residual, z if gate else None, eps=1e-3, group_size=group, norm_before_gate=gate != "after"
    )
    h = x + residual
    torch.testing.assert_close(total, h)
    if gate == "after":
        h = h * functional.silu(z)
    expected = _normalised(kind, h.unflatten(-1, (-1, group or 24)), 1e-3).flatten(-2) * weight + bias
    if gate == "before":
        expected = expected * functional.silu(z)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    used = leaves if gate else leaves[:-1]
    actual = torch.autograd.grad((y.square().sum() + total.sum()), used)
    for a, b in zip(actual, torch.autograd.grad(expected.square().sum() + (x + residual).sum(), used), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# ---- state-space duality ----


@pytest.mark.parametrize(
    "options",
    [{}, {"dt_limit": (0.1, 0.8)}, {"reverse": True}, {"dt_on_x": False}],
    ids=["plain", "limits", "reverse", "x"],
)
def test_ssd(randn: Any, options: dict[str, Any]) -> None:
    B, L, H, P, G, N = 2, 45, 4, 8, 2, 6
    inputs = [randn(B, L, H, P), randn(B, L, H), -randn(H).exp(), randn(B, L, G, N), randn(B, L, G, N)]
    inputs += [randn(H), randn(B, L, H, P), randn(H), randn(B, H, P, N)]
    low = [t.detach().requires_grad_() for t in inputs]
    high = [t.detach().double().requires_grad_() for t in inputs]
    y, final = ops.ssd(*low[:8], dt_softplus=True, initial_state=low[8], return_final_state=True, **options)
    expected, state = loops.ssd(*high, **options)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(final.double(), state, rtol=1e-4, atol=1e-4)
    (y.sum() + final.sum()).backward()
    (expected.sum() + state.sum()).backward()
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-3, atol=1e-3, msg=lambda m, i=i: f"input {i}: {m}")


def test_ssd_state_update_steps_through_ssd(randn: Any) -> None:
    B, L, H, P, N = 2, 11, 4, 8, 6
    x, dt, A, b, c = randn(B, L, H, P), randn(B, L, H), -randn(H).exp(), randn(B, L, N), randn(B, L, N)
    D, z, bias, state = randn(H, P), randn(B, L, H, P), randn(H), randn(B, H, P, N)
    whole, final = ops.ssd(x, dt, A, b, c, D, z, bias, True, (0.01, 2.0), state, True)
    for t in range(L):
        y, state = ops.ssd_state_update(
            state, x[:, t], dt[:, t], A, b[:, t], c[:, t], D, z[:, t], bias, dt_softplus=True, dt_limit=(0.01, 2.0)
        )
        torch.testing.assert_close(y, whole[:, t], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state, final, rtol=1e-4, atol=1e-4)


def test_ssd_forgets_where_the_segment_changes(randn: Any) -> None:
    x, dt, A, b, c = randn(1, 20, 2, 4), randn(1, 20, 2).abs(), -randn(2).exp(), randn(1, 20, 5), randn(1, 20, 5)
    segments = torch.tensor([[0] * 7 + [1] * 13], dtype=torch.int32)
    y = ops.ssd(x, dt, A, b, c, seq_idx=segments)
    for part in (slice(0, 7), slice(7, 20)):
        torch.testing.assert_close(
            y[:, part], ops.ssd(x[:, part], dt[:, part], A, b[:, part], c[:, part]), rtol=1e-5, atol=1e-5
        )


# ---- diagonal recurrence ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_diagonal_scan(dtype: torch.dtype, dims: int, reverse: bool) -> None:
    torch.manual_seed(0)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    b, state = torch.randn(2, 33, 9, dtype=dtype), torch.randn(2, 9, dtype=dtype)
    a = torch.randn((2, 33, 9)[3 - dims :], dtype=dtype) * 0.6
    low = [t.clone().requires_grad_() for t in (b, a, state)]
    high = [t.to(wide).requires_grad_() for t in (b, a, state)]
    x, final = ops.diagonal_scan(*low, reverse=reverse, return_final_state=True)
    expected, last = loops.diagonal_scan(*high, reverse=reverse)
    torch.testing.assert_close(x.to(wide), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(final.to(wide), last, rtol=1e-4, atol=1e-4)
    (x.abs().square().sum() + final.abs().square().sum()).backward()
    (expected.abs().square().sum() + last.abs().square().sum()).backward()
    for i, (p, q) in enumerate(zip(low, high, strict=True)):
        torch.testing.assert_close(p.grad.to(wide), q.grad, rtol=1e-3, atol=1e-3, msg=lambda m, i=i: f"input {i}: {m}")

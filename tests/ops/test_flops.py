"""Counts of torch's flop counter against the operations that the definitions carry out, counted one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mambasdk import ops


class Counted:
    """A number that counts what is done with it."""

    total = 0

    def __mul__(self, _: Counted) -> Counted:
        Counted.total += 1
        return self

    def __add__(self, _: Counted) -> Counted:
        Counted.total += 1
        return self


N_ = Counted()  # any number


def _counted(function: Any) -> int:
    Counted.total = 0
    function()
    return Counted.total


def _flops(function: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def _scan_steps(steps: int, states: int, skip: bool, gate: bool) -> None:
    """The recurrence of one channel; a state that starts at zero is added to like any other."""
    for _ in range(steps):
        step_input = N_ * N_  # delta u
        y = None
        for _ in range(states):
            decay = N_ * N_  # delta A, then its exponential
            h = decay * N_ + step_input * N_
            y = h * N_ if y is None else y + h * N_
        y = N_ + N_  # the first product of the sum is added to the output, which starts at zero
        if skip:
            y = y + N_ * N_
        if gate:
            y = y * N_


def _ssd_steps(steps: int, P: int, N: int, skip: bool, gate: bool) -> None:
    for _ in range(steps):
        N_ * N_  # dt A
        for _ in range(P):
            x = N_ * N_  # dt x
            y = N_
            for _ in range(N):
                y = y + (N_ * N_ + x * N_) * N_
            if skip:
                y = y + N_ * N_
            if gate:
                y * N_


def _mlstm_steps(steps: int, E: int) -> None:
    """The recurrence of one head; the normaliser is one more row of the state, without products with its value."""
    for _ in range(steps):
        N_ + N_  # the gate's logarithm + m
        for _ in range(E):
            (N_ * N_) * N_  # k / sqrt(E), times b
        for _ in range(E):
            y = N_
            for _ in range(E):
                y = y + (N_ * N_ + N_ * N_) * N_
        normaliser = N_
        for _ in range(E):
            normaliser = normaliser + (N_ * N_ + N_) * N_


@pytest.mark.parametrize("full", [False, True])
def test_selective_scan(full: bool) -> None:
    B, L, D, N = 2, 5, 3, 4
    given = {"D": torch.ones(D), "z": torch.ones(B, L, D)} if full else {}
    u, A, b = torch.ones(B, L, D), -torch.ones(D, N), torch.ones(B, L, N)
    expected = B * D * _counted(lambda: _scan_steps(L, N, full, full))
    assert _flops(lambda: ops.selective_scan(u, u, A, b, b, **given)) == expected
    one = {k: v[:, 0] if k == "z" else v for k, v in given.items()}
    update = lambda: ops.selective_state_update(torch.zeros(B, D, N), u[:, 0], u[:, 0], A, b[:, 0], b[:, 0], **one)  # noqa: E731
    assert _flops(update) == B * D * _counted(lambda: _scan_steps(1, N, full, full))


def test_routes_of_selective_scan_add_up() -> None:
    order = torch.arange(5, dtype=torch.int32).repeat(2, 1)
    params = torch.ones(1, 2, 5, 4)
    call = lambda: ops.selective_scan(  # noqa: E731
        torch.ones(1, 5, 3), torch.ones(1, 2, 5, 3), -torch.ones(2, 3, 4), params, params, order=order
    )
    assert _flops(call) == 2 * 3 * _counted(lambda: _scan_steps(5, 4, False, False))


@pytest.mark.parametrize("full", [False, True])
def test_ssd(full: bool) -> None:
    B, L, H, P, N = 2, 5, 3, 4, 6
    given = {"D": torch.ones(H), "z": torch.ones(B, L, H, P)} if full else {}
    x, dt, A, b = torch.ones(B, L, H, P), torch.ones(B, L, H), -torch.ones(H), torch.ones(B, L, N)
    assert _flops(lambda: ops.ssd(x, dt, A, b, b, **given)) == B * H * _counted(lambda: _ssd_steps(L, P, N, full, full))


def test_mlstm() -> None:
    B, L, H, E = 2, 5, 3, 4
    q, gate = torch.ones(B, L, H, E, requires_grad=True), torch.ones(B, L, H)
    forward = _flops(lambda: ops.mlstm(q, q, q, gate, gate))
    assert forward == B * H * _counted(lambda: _mlstm_steps(L, E))
    state = torch.zeros(B, H, E, E), torch.zeros(B, H, E), torch.zeros(B, H)
    step = lambda: ops.mlstm_state_update(state, *(q.detach()[:, 0],) * 3, gate[:, 0], gate[:, 0])  # noqa: E731
    assert _flops(step) == B * H * _counted(lambda: _mlstm_steps(1, E))
    both = _flops(lambda: ops.mlstm(q, q, q, gate, gate).sum().backward())
    # per state as of ssd; of the normaliser's row n again 2, its gradient 3, dq 2, dk 1, q 2; k / sqrt(E) and times b,
    # dk / sqrt(E), dh / divisor, dh h 2; the gate's logarithm + m
    assert both - forward == B * L * H * ((3 + 3 + 6 + 2) * E * E + (10 + 4 + 2) * E + 1)


def test_products() -> None:
    x, weight = torch.ones(2, 3, 5), torch.ones(7, 5)
    assert (
        _flops(lambda: ops.call("linear", x=x, weight=weight)) == _flops(lambda: x.view(6, 5) @ weight.T) == 2 * 6 * 35
    )
    group = torch.zeros(2, 3, dtype=torch.int32)
    experts = torch.ones(4, 7, 5)
    assert _flops(lambda: ops.call("grouped_linear", x=x, weight=experts, group=group)) == 2 * 6 * 35
    sequence, taps = torch.ones(2, 9, 3), torch.ones(3, 4)
    assert _flops(lambda: ops.causal_conv1d(sequence, taps)) == 2 * (2 * 9 * 3) * 4
    assert _flops(lambda: ops.causal_conv1d_update(torch.ones(2, 3, 3), sequence[:, 0], taps)) == 2 * (2 * 3) * 4
    assert _flops(lambda: ops.diagonal_scan(sequence, torch.ones(3))) == 2 * (2 * 9 * 3)
    complex_ = sequence.to(torch.complex64)
    assert _flops(lambda: ops.diagonal_scan(complex_, torch.ones(3, dtype=torch.complex64))) == 8 * (2 * 9 * 3)
    assert _flops(lambda: ops.rms_norm(sequence)) == 0


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_of_maps_count_as_torchs(groups: int, transposed: bool) -> None:
    x, weight = torch.ones(2, 6, 9, 8), torch.ones(6 if transposed else 4, (4 if transposed else 6) // groups, 3, 2)
    options: dict[str, int] = {"stride_h": 2, "stride_w": 2, "padding_h": 1, "padding_w": 1}
    places: dict[str, Any] = {"stride": 2, "padding": 1, "groups": groups}
    name, theirs = "convolution", torch.nn.functional.conv2d
    if transposed:
        name, theirs = "convolution_transposed", torch.nn.functional.conv_transpose2d
    else:
        options |= {"padding_after_h": 1, "padding_after_w": 1}
    given, view = (t.unsqueeze(2).movedim(1, -1) for t in (x, weight))
    expected = _flops(lambda: theirs(x, weight, **places))
    assert _flops(lambda: ops.call(name, x=given, weight=view, groups=groups, **options)) == expected > 0
    if groups == 1:
        matrix = ops.call("pack_weights", weight=(view.transpose(0, 4) if transposed else view).flatten(1))
        options |= {"features": 4, "kernel_h": 3, "kernel_w": 2}
        assert _flops(lambda: ops.call(f"{name}_packed", x=given, weight=matrix, **options)) == expected


def _deformable_taps(taps: int) -> None:
    y = N_
    for _ in range(4 * taps):
        y = y + N_ * N_


def test_deformable_sampling() -> None:
    """36 multiply-adds a channel and position, as DCNv4's own count (arXiv 2401.06197) has them."""
    x, entries = torch.ones(2, 5, 6, 8, requires_grad=True), torch.ones(2, 5, 6, 56)
    call = lambda: ops.deformable_sample(x, entries, groups=2)  # noqa: E731
    assert _flops(call) == 2 * 30 * 8 * _counted(lambda: _deformable_taps(9)) == 2 * 36 * (2 * 30 * 8)
    assert _flops(lambda: call().sum().backward()) == 3 * _flops(call)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_products_of_matrices_count_as_torchs(lead: tuple[int, ...]) -> None:
    x, y = torch.ones(*lead, 3, 5), torch.ones(*lead, 5, 7)
    assert _flops(lambda: ops.call("matmul", x=x, y=y)) == _flops(lambda: x @ y) == 2 * math.prod(lead) * 3 * 5 * 7


@pytest.mark.parametrize("causal", [False, True])
def test_attention_counts_as_torchs_products(causal: bool) -> None:
    q, k, v = torch.ones(2, 5, 4, 6), torch.ones(2, 7, 2, 6), torch.ones(2, 7, 2, 3)
    heads = [t.repeat_interleave(4 // t.shape[2], 2).transpose(1, 2) for t in (q, k, v)]
    expected = _flops(lambda: (heads[0] @ heads[1].mT).softmax(-1) @ heads[2])
    assert _flops(lambda: ops.call("attention", q=q, k=k, v=v, scale=0.5, causal=causal)) == expected > 0


def _gru_steps(steps: int, N: int) -> None:
    """The recurrence; a product's sum starts at the bias."""
    for _ in range(steps):
        gates = []
        for _ in range(3 * N):
            g = N_
            for _ in range(N):
                g = g + N_ * N_
            gates.append(g)
        for i in range(N):
            _ = N_ + gates[i]  # r
            z = N_ + gates[N + i]
            n = N_ + N_ * gates[2 * N + i]
            _ = (N_ + z) * n + z * N_


def test_gru() -> None:
    B, L, N = 2, 5, 3
    given = {"gates": torch.ones(B, L, 3 * N), "weight": torch.ones(3 * N, N)}
    expected = B * _counted(lambda: _gru_steps(L, N))
    assert _flops(lambda: ops.call("gru", **given)) == expected
    assert _flops(lambda: ops.call("gru", **given, lengths=torch.tensor([5, 2], dtype=torch.int32))) == expected


def test_long_convolutions_count_their_sums() -> None:
    x = torch.ones(2, 9, 3)
    for taps in (4, 9):
        kernel, short = torch.ones(taps, 3), torch.ones(3, taps)
        expected = _flops(lambda: ops.causal_conv1d(x, short))  # noqa: B023
        assert _flops(lambda: ops.call("fft_convolution", x=x, kernel=kernel)) == expected == 2 * (2 * 9 * 3) * taps  # noqa: B023
        skipped = _flops(lambda: ops.call("fft_convolution", x=x, kernel=kernel, skip=torch.ones(3)))  # noqa: B023
        assert skipped == expected + 2 * (2 * 9 * 3)
    beyond = _flops(lambda: ops.call("fft_convolution", x=x, kernel=torch.ones(40, 3)))
    assert beyond == 2 * (2 * 9 * 3) * 9


def test_packed_products() -> None:
    matrix = ops.call("pack_weights", weight=torch.ones(7, 5))
    assert _flops(lambda: ops.call("linear_packed", x=torch.ones(2, 3, 5), weight=matrix, features=7)) == 2 * 6 * 35


def test_backward_is_counted() -> None:
    """What hand formulas give for the derivatives, beside the forward."""
    B, L, D, K, N = 2, 9, 3, 4, 6
    x, taps = torch.ones(B, L, D, requires_grad=True), torch.ones(D, K, requires_grad=True)
    both = _flops(lambda: ops.causal_conv1d(x, taps).sum().backward())
    assert both == 3 * 2 * (B * L * D) * K
    A, b = -torch.ones(D, N), torch.ones(B, L, N)
    forward = _flops(lambda: ops.selective_scan(x, x.detach(), A, b, b))
    both = _flops(lambda: ops.selective_scan(x, x.detach(), A, b, b).sum().backward())
    # per state: delta A, the state again 3; g = decay g + C dy 3; dC, dB, d(delta u) 2 each; q 2; ddelta, dA 2 each
    assert both - forward == B * L * D * ((1 + 3 + 3 + 6 + 2 + 4) * N + 4)
    H, P = 3, 4
    y = torch.ones(B, L, H, P, requires_grad=True)
    dt, head = torch.ones(B, L, H), -torch.ones(H)
    forward = _flops(lambda: ops.ssd(y, dt, head, b, b))
    both = _flops(lambda: ops.ssd(y, dt, head, b, b).sum().backward())
    assert both - forward == B * L * H * ((3 + 3 + 6 + 2) * P * N + 1 + 4 + 4 * P)


def test_compiled_and_abstract_tensors_count_the_same() -> None:
    x, taps = torch.ones(2, 9, 3), torch.ones(3, 4)
    assert _flops(lambda: ops.causal_conv1d(x.to("meta"), taps.to("meta"))) == 2 * (2 * 9 * 3) * 4

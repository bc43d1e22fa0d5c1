"""Recurrences that forget at once take no longer than others, though their decays are below normal numbers."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mambasdk import ops

LENGTH, CHANNELS, STATES = 1024, 64, 16


def _ssd(rate: float) -> Tensor:
    x, B, C = (torch.randn(1, LENGTH, 1, n, requires_grad=True) for n in (CHANNELS, STATES, STATES))
    dt = torch.full((1, LENGTH, 1), 1.0).exp().requires_grad_()
    y: Tensor = ops.ssd(x, dt, torch.tensor([-rate]), B, C)
    return y


def _selective_scan(rate: float) -> Tensor:
    u, delta = (torch.rand(1, LENGTH, CHANNELS, requires_grad=True) for _ in range(2))
    B, C = (torch.randn(1, LENGTH, STATES, requires_grad=True) for _ in range(2))
    y: Tensor = ops.selective_scan(u, delta, torch.full((CHANNELS, STATES), -rate), B, C)
    return y


def _seconds(make: Callable[[float], Tensor], rate: float) -> float:
    best = 1.0
    for _ in range(9):
        torch.manual_seed(0)
        start = time.process_time()
        make(rate).sum().backward()
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("make", [_ssd, _selective_scan])
def test_strong_decays_take_no_longer(make: Callable[[float], Tensor]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        mild = _seconds(make, 0.01)
        assert max(_seconds(make, rate) for rate in (1.0, 8.0, 33.0, 90.0)) < 2.5 * mild
    finally:
        torch.set_num_threads(threads)

"""Forms of the scan beside the selective one: B and C constant in time, and complex A, B and C, against NumPy loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mambasdk import ops

BATCH, LENGTH, CHANNELS, N = 2, 70, 6, 5


def _at(t: np.ndarray, b: int, step: int) -> np.ndarray:
    """(channels, N) of B or C at a step: constant, per step, or per step and group."""
    if t.ndim == 2:
        return t
    if t.ndim == 3:
        return np.broadcast_to(t[b, step], (CHANNELS, N))
    return np.repeat(t[b, step], CHANNELS // t.shape[2], 0)


def _loop(i: dict[str, np.ndarray], reverse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(y, final state); a complex A has one of each pair of conjugate states."""
    y = np.zeros((BATCH, LENGTH, CHANNELS))
    states = np.zeros((BATCH, CHANNELS, N), dtype=i["A"].dtype)
    for b in range(BATCH):
        h = i["initial_state"][b].astype(i["A"].dtype)
        for t in range(LENGTH)[:: -1 if reverse else 1]:
            dt = np.log1p(np.exp(i["delta"][b, t] + i["delta_bias"]))[:, None]
            h = np.exp(dt * i["A"]) * h + dt * _at(i["B"], b, t) * i["u"][b, t][:, None]
            read = (h * _at(i["C"], b, t)).sum(-1)
            y[b, t] = (2 * read.real if np.iscomplexobj(read) else read) + i["D"] * i["u"][b, t]
        states[b] = h
    z = i["z"]
    return y * z / (1 + np.exp(-z)), states


def _inputs(B: tuple[int, ...], C: tuple[int, ...], complex_: bool) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    draw = lambda *shape, dtype=torch.float32: torch.randn(*shape, generator=generator, dtype=dtype)  # noqa: E731
    dtype = torch.complex64 if complex_ else torch.float32
    A = -draw(CHANNELS, N).exp()
    return {
        "u": draw(BATCH, LENGTH, CHANNELS),
        "delta": draw(BATCH, LENGTH, CHANNELS) * 0.5 - 1.0,
        "A": torch.complex(A, draw(CHANNELS, N)) if complex_ else A,
        "B": draw(*B, dtype=dtype),
        "C": draw(*C, dtype=dtype),
        "D": draw(CHANNELS),
        "z": draw(BATCH, LENGTH, CHANNELS),
        "delta_bias": draw(CHANNELS),
        "initial_state": draw(BATCH, CHANNELS, N, dtype=dtype),
    }


CONSTANT, VARIABLE, GROUPED = (CHANNELS, N), (BATCH, LENGTH, N), (BATCH, LENGTH, 3, N)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("B", "C", "complex_"),
    [
        (CONSTANT, CONSTANT, False),
        (CONSTANT, VARIABLE, False),
        (GROUPED, CONSTANT, False),
        (CONSTANT, CONSTANT, True),
        (VARIABLE, VARIABLE, True),
        (GROUPED, VARIABLE, True),
        (CONSTANT, GROUPED, True),
    ],
)
def test_scan_equals_a_loop(B: tuple[int, ...], C: tuple[int, ...], complex_: bool, reverse: bool) -> None:
    inputs = _inputs(B, C, complex_)
    wide = {k: v.to(torch.complex128 if v.is_complex() else torch.float64) for k, v in inputs.items()}
    expected, last = _loop({k: v.numpy() for k, v in wide.items()}, reverse)
    y, state = ops.selective_scan(**inputs, delta_softplus=True, return_final_state=True, reverse=reverse)
    assert y.dtype == torch.float32
    assert state.dtype == inputs["A"].dtype
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state.numpy(), last, rtol=1e-4, atol=1e-4)
    alone = ops.selective_scan(**inputs, delta_softplus=True, reverse=reverse)
    torch.testing.assert_close(alone, y)
    double, _ = ops.selective_scan(**wide, delta_softplus=True, return_final_state=True, reverse=reverse)
    np.testing.assert_allclose(double.numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("B", "C", "complex_"), [(CONSTANT, CONSTANT, False), (CONSTANT, GROUPED, True)])
def test_gradients_equal_differences(B: tuple[int, ...], C: tuple[int, ...], complex_: bool) -> None:
    """Of the float64 form against central differences of the loop, in random directions."""
    wide = {k: v.to(torch.complex128 if v.is_complex() else torch.float64) for k, v in _inputs(B, C, complex_).items()}
    leaves = {k: v.clone().requires_grad_() for k, v in wide.items()}
    weight = torch.randn(BATCH, LENGTH, CHANNELS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (ops.selective_scan(**leaves, delta_softplus=True) * weight).sum().backward()
    rng = np.random.default_rng(0)

    def loss(values: dict[str, Any]) -> float:
        return float((_loop(values)[0] * weight.numpy()).sum())

    plain = {k: v.numpy() for k, v in wide.items()}
    for name, value in plain.items():
        direction = rng.standard_normal(value.shape)
        if np.iscomplexobj(value):
            direction = direction + 1j * rng.standard_normal(value.shape)
        step = 1e-6
        difference = loss({**plain, name: value + step * direction}) - loss({**plain, name: value - step * direction})
        grad = leaves[name].grad.numpy()
        slope = (grad.conj() * direction).real.sum()
        np.testing.assert_allclose(slope, difference / (2 * step), rtol=1e-5, atol=1e-5, err_msg=name)


def test_half_precision_beside_float32_constants() -> None:
    inputs = _inputs(CONSTANT, CONSTANT, False)
    low = {**inputs, **{k: inputs[k].bfloat16() for k in ("u", "delta", "z")}}
    y = ops.selective_scan(**low, delta_softplus=True)
    assert y.dtype == torch.bfloat16
    expected, _ = _loop({k: v.double().numpy() for k, v in low.items()})
    np.testing.assert_allclose(y.double().numpy(), expected, rtol=2.0**-8, atol=2.0**-8)


def test_complex_scans_refuse_routes_and_packing() -> None:
    inputs = _inputs(VARIABLE, VARIABLE, True)
    with pytest.raises(ValueError, match="complex A takes no order"):
        ops.selective_scan(**inputs, cu_seqlens=torch.tensor([0, LENGTH], dtype=torch.int32))

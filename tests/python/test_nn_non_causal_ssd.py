"""Non-causal state space duality: its definition in NumPy, invariance to the order of tokens, gradients, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mambasdk.errors import ShapeError
from mambasdk.nn import non_causal_ssd


def arguments(
    batch: int = 2, length: int = 7, heads: int = 4, headdim: int = 3, states: int = 5, groups: int | None = None
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(length + heads)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shared = (batch, length, states) if groups is None else (batch, length, groups, states)
    return {
        "x": normal(batch, length, heads, headdim),
        "dt": normal(batch, length, heads),
        "A": normal(heads),
        "B": normal(*shared),
        "C": normal(*shared),
        "D": normal(heads),
        "dt_bias": normal(heads),
    }


def by_definition(given: dict[str, Tensor]) -> np.ndarray:
    """S_h = sum_l B_l (w_l x_l), y = C S + D x with w = softplus(dt + bias) A, one number after the other."""
    x, dt, A, B, C, D, bias = (given[name].numpy() for name in ("x", "dt", "A", "B", "C", "D", "dt_bias"))
    B, C = (t[:, :, None] if t.ndim == 3 else t for t in (B, C))
    batch, length, heads, headdim = x.shape
    y = np.zeros_like(x)
    for b in range(batch):
        for h in range(heads):
            group = h // (heads // B.shape[2])
            state = np.zeros((B.shape[3], headdim))
            for t in range(length):
                state += np.outer(B[b, t, group], np.logaddexp(0, dt[b, t, h] + bias[h]) * A[h] * x[b, t, h])
            for t in range(length):
                y[b, t, h] = C[b, t, group] @ state + D[h] * x[b, t, h]
    return y


@pytest.mark.parametrize("groups", [None, 1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_equals_its_definition(groups: int | None, length: int) -> None:
    given = arguments(length=length, groups=groups)
    expected = torch.from_numpy(by_definition(given))
    torch.testing.assert_close(non_causal_ssd(**given, dt_softplus=True), expected, atol=1e-12, rtol=1e-12)
    single: Any = {name: tensor.float() for name, tensor in given.items()}
    torch.testing.assert_close(non_causal_ssd(**single, dt_softplus=True).double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("groups", [None, 2])
def test_tokens_in_another_order_give_the_outputs_in_that_order(groups: int | None) -> None:
    given = arguments(length=11, groups=groups)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    moved = {name: t[:, order] if name in ("x", "dt", "B", "C") else t for name, t in given.items()}
    torch.testing.assert_close(non_causal_ssd(**moved), non_causal_ssd(**given)[:, order])


def test_the_last_output_of_a_causal_state_without_decay_is_the_same() -> None:
    """`ssd` with A = 0 keeps every token; its last one sees them all, each scaled by dt."""
    from mambasdk import ops

    given = arguments(groups=2)
    d = torch.nn.functional.softplus(given["dt"])
    ones, zeros = torch.ones_like(given["A"]), torch.zeros_like(given["A"])
    causal = ops.ssd(given["x"], d, zeros, given["B"], given["C"], D=given["D"])
    found = non_causal_ssd(given["x"], d, ones, given["B"], given["C"], D=given["D"])
    torch.testing.assert_close(found[:, -1], causal[:, -1])


@pytest.mark.parametrize("groups", [None, 1, 2])
def test_gradients(groups: int | None) -> None:
    given = arguments(batch=1, length=4, groups=groups)
    names = list(given)

    def run(*tensors: Tensor) -> Tensor:
        return non_causal_ssd(**dict(zip(names, tensors, strict=True)), dt_softplus=True)

    inputs = [tensor.requires_grad_() for tensor in given.values()]
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_empty_sequences_and_bfloat16() -> None:
    assert non_causal_ssd(**arguments(length=0)).shape == (2, 0, 4, 3)
    assert non_causal_ssd(**arguments(batch=0)).shape == (0, 7, 4, 3)
    given = arguments(length=50, groups=2)
    low: Any = {n: t.float() if n in ("A", "D", "dt_bias") else t.bfloat16() for n, t in given.items()}
    found, expected = non_causal_ssd(**low, dt_softplus=True), non_causal_ssd(**given, dt_softplus=True)
    assert found.dtype == torch.bfloat16
    assert float((found.double() - expected).norm() / expected.norm()) < 0.02


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (2, 7, 12), r"bad x: expected \(batch, length, heads, headdim\), got \(2, 7, 12\)"),
        ("dt", (2, 7, 3), r"bad dt: expected \(2, 7, 4\), got \(2, 7, 3\)"),
        ("A", (3,), r"bad A: expected \(4,\)"),
        ("D", (4, 3), r"bad D: expected \(4,\)"),
        ("B", (2, 6, 5), r"bad B: expected \(2, 7, N\) or"),
        ("C", (2, 7, 6), r"B and C differ: expected \(2, 7, 5\), got \(2, 7, 6\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(name: str, shape: tuple[int, ...], message: str) -> None:
    given: Any = {**arguments(), name: torch.zeros(shape, dtype=torch.float64)}
    with pytest.raises(ShapeError, match=f"non_causal_ssd: {message}"):
        non_causal_ssd(**given)
    with pytest.raises(ShapeError, match="bad groups of B and C: expected a divisor of 4 heads, got 3"):
        non_causal_ssd(**arguments(groups=3))

"""One-step updates whose states stand in a pool, and states and inputs of mixed precision, against NumPy loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from mambasdk import ops

SLOTS, HEADS, P, N, CHANNELS = 7, 4, 5, 6, 12


def _draw(seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator)


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(x))


def _exact(inputs: dict[str, Any]) -> dict[str, Any]:
    return {k: v.detach().double().numpy() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}


def _ssd_inputs(batch: int, dtype: torch.dtype, dt: torch.dtype, z: torch.dtype) -> dict[str, torch.Tensor]:
    draw = _draw(1)
    return {
        "x": draw(batch, HEADS, P).to(dtype),
        "dt": draw(batch, HEADS).to(dt),
        "A": -draw(HEADS).exp(),
        "B": draw(batch, 2, N).to(dtype),
        "C": draw(batch, 2, N).to(dtype),
        "D": draw(HEADS),
        "z": draw(batch, HEADS, P).to(z),
        "dt_bias": draw(HEADS),
    }


def _ssd_loop(state: np.ndarray, i: dict[str, np.ndarray], slots: list[int]) -> tuple[np.ndarray, np.ndarray]:
    state, y = state.copy(), np.zeros_like(i["x"])
    for b, slot in enumerate(slots):
        if slot < 0:
            continue
        for h in range(HEADS):
            dt, g = _softplus(i["dt"][b, h] + i["dt_bias"][h]), h // (HEADS // 2)
            state[slot, h] = np.exp(dt * i["A"][h]) * state[slot, h] + dt * np.outer(i["x"][b, h], i["B"][b, g])
            y[b, h] = (state[slot, h] @ i["C"][b, g] + i["D"][h] * i["x"][b, h]) * _silu(i["z"][b, h])
    return y, state


def _scan_inputs(batch: int, dtype: torch.dtype, dt: torch.dtype, z: torch.dtype) -> dict[str, torch.Tensor]:
    draw = _draw(2)
    return {
        "x": draw(batch, CHANNELS).to(dtype),
        "dt": draw(batch, CHANNELS).to(dt),
        "A": -draw(CHANNELS, N).exp(),
        "B": draw(batch, 3, N).to(dtype),
        "C": draw(batch, 3, N).to(dtype),
        "D": draw(CHANNELS),
        "z": draw(batch, CHANNELS).to(z),
        "dt_bias": draw(CHANNELS),
    }


def _scan_loop(state: np.ndarray, i: dict[str, np.ndarray], slots: list[int]) -> tuple[np.ndarray, np.ndarray]:
    state, y = state.copy(), np.zeros_like(i["x"])
    for b, slot in enumerate(slots):
        if slot < 0:
            continue
        for d in range(CHANNELS):
            dt, g = _softplus(i["dt"][b, d] + i["dt_bias"][d]), d // (CHANNELS // 3)
            state[slot, d] = np.exp(dt * i["A"][d]) * state[slot, d] + dt * i["x"][b, d] * i["B"][b, g]
            y[b, d] = (state[slot, d] @ i["C"][b, g] + i["D"][d] * i["x"][b, d]) * _silu(i["z"][b, d])
    return y, state


FORMS: dict[str, Any] = {
    "ssd": (ops.ssd_state_update, _ssd_inputs, _ssd_loop, (HEADS, P, N), {"dt_softplus": True}),
    "scan": (ops.selective_state_update, _scan_inputs, _scan_loop, (CHANNELS, N), {"dt_softplus": True}),
}
INDICES = [3, -1, 0, 6, -1]
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("state_type", LIMITS)
@pytest.mark.parametrize(
    ("dtype", "dt", "z"),
    [
        (torch.float32, torch.float32, torch.float32),
        (torch.bfloat16, torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.float16, torch.float32, torch.float32),
    ],
)
@pytest.mark.parametrize("pooled", [True, False])
def test_update_equals_a_loop(
    form: str, state_type: torch.dtype, dtype: torch.dtype, dt: torch.dtype, z: torch.dtype, pooled: bool
) -> None:
    update, make, loop, shape, flags = FORMS[form]
    slots = INDICES if pooled else [0, 1, 2, 3, 4]
    inputs = make(len(slots), dtype, dt, z)
    state = _draw(3)(SLOTS if pooled else len(slots), *shape).to(state_type)
    kept = state.clone()
    indices = {"state_indices": torch.tensor(slots, dtype=torch.int32)} if pooled else {}
    y, new = update(state, **inputs, **flags, **indices)
    expected, expected_state = loop(state.double().numpy(), _exact(inputs), slots)
    assert torch.equal(state, kept)
    assert y.dtype == dtype
    assert new.dtype == state_type
    np.testing.assert_allclose(y.double().numpy(), expected, rtol=LIMITS[dtype], atol=4 * LIMITS[dtype])
    np.testing.assert_allclose(
        new.double().numpy(), expected_state, rtol=max(LIMITS[state_type], 1e-4), atol=LIMITS[state_type]
    )
    if pooled:
        untouched = [s for s in range(SLOTS) if s not in slots]
        assert torch.equal(new[untouched], state[untouched])
        assert (y[[1, 4]] == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_padded_rows_are_neither_read_nor_written(form: str) -> None:
    """NaN in the padded rows and in slots of no row reaches nothing."""
    update, make, loop, shape, flags = FORMS[form]
    inputs = {k: v.clone() for k, v in make(len(INDICES), torch.float32, torch.float32, torch.float32).items()}
    state = _draw(3)(SLOTS, *shape)
    expected, expected_state = loop(state.double().numpy(), _exact(inputs), INDICES)
    for name in ("x", "dt", "B", "C", "z"):
        inputs[name][[1, 4]] = torch.nan
    state[[1, 2, 4, 5]] = torch.nan
    leaves = {k: v.requires_grad_() for k, v in {"state": state, **inputs}.items()}
    y, new = update(**leaves, **flags, state_indices=torch.tensor(INDICES, dtype=torch.int32))
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-5, atol=1e-5)
    used = [0, 3, 6]
    np.testing.assert_allclose(new[used].detach().numpy(), expected_state[used], rtol=1e-5, atol=1e-5)
    assert new[[1, 2, 4, 5]].isnan().all()
    (y.square().sum() + new[used].square().sum()).backward()
    for name, leaf in leaves.items():
        assert leaf.grad.isfinite().all(), name
    for name in ("x", "dt", "B", "C", "z"):
        assert (leaves[name].grad[[1, 4]] == 0).all(), name


@pytest.mark.parametrize("form", FORMS)
def test_pool_gradients_equal_those_of_the_rows_alone(form: str) -> None:
    update, make, _, shape, flags = FORMS[form]
    inputs = make(len(INDICES), torch.float32, torch.float32, torch.float32)
    rows, used = [0, 2, 3], [3, 0, 6]
    pool = _draw(3)(SLOTS, *shape)
    weight = _draw(4)(SLOTS, *shape)
    pooled = {k: v.clone().requires_grad_() for k, v in {"state": pool, **inputs}.items()}
    y, new = update(**pooled, **flags, state_indices=torch.tensor(INDICES, dtype=torch.int32))
    (y.square().sum() + (new * weight).sum()).backward()
    by_row = ("x", "dt", "B", "C", "z")
    alone = {
        k: v[rows].clone().requires_grad_() if k in by_row else v.clone().requires_grad_() for k, v in inputs.items()
    }
    state = pool[used].clone().requires_grad_()
    y, new = update(state, **alone, **flags)
    (y.square().sum() + (new * weight[used]).sum()).backward()
    torch.testing.assert_close(pooled["state"].grad[used], state.grad)
    untouched = [1, 2, 4, 5]
    torch.testing.assert_close(pooled["state"].grad[untouched], weight[untouched])
    for name, leaf in alone.items():
        grad = pooled[name].grad[rows] if name in by_row else pooled[name].grad
        torch.testing.assert_close(grad, leaf.grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("form", FORMS)
def test_another_padding_index(form: str) -> None:
    update, make, loop, shape, flags = FORMS[form]
    inputs = make(2, torch.float32, torch.float32, torch.float32)
    state = _draw(3)(SLOTS, *shape)
    y, _ = update(state, **inputs, **flags, state_indices=torch.tensor([99, 4], dtype=torch.int32), pad_slot_id=99)
    expected, _ = loop(state.double().numpy(), _exact(inputs), [-1, 4])
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("indices", "what"),
    [([0, SLOTS], "expected a slot in"), ([-2, 0], "expected a slot in"), ([2**31 - 1, 0], "expected a slot in"),
     ([3, 3], "more than once")],
)  # fmt: skip
def test_indices_out_of_range_are_refused(form: str, indices: list[int], what: str) -> None:
    update, make, _, shape, flags = FORMS[form]
    inputs = make(2, torch.float32, torch.float32, torch.float32)
    with pytest.raises(ValueError, match=what):
        update(_draw(3)(SLOTS, *shape), **inputs, **flags, state_indices=torch.tensor(indices, dtype=torch.int32))


# ---- float32 steps and gates beside half-precision inputs ----


def _sequence_forms() -> dict[str, Any]:
    draw = _draw(7)
    return {
        "ssd": (
            ops.ssd,
            {"x": draw(2, 90, 2, 20), "dt": draw(2, 90, 2) * 0.3, "A": -draw(2).exp(), "B": draw(2, 90, 1, 8),
             "C": draw(2, 90, 1, 8), "D": draw(2), "z": draw(2, 90, 2, 20)},
            ("x", "B", "C"), "dt", {"dt_softplus": True}, 4,
        ),
        "scan": (
            ops.selective_scan,
            {"u": draw(2, 150, 21), "delta": draw(2, 150, 21) * 0.3, "A": -draw(21, 5).exp(), "B": draw(2, 150, 5),
             "C": draw(2, 150, 5), "D": draw(21), "z": draw(2, 150, 21)},
            ("u", "B", "C"), "delta", {"delta_softplus": True}, 1,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("form", ["ssd", "scan"])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("wide_dt", "wide_z"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("reverse", [False, True])
def test_float32_steps_and_gates_beside_half_precision(
    form: str, half: torch.dtype, wide_dt: bool, wide_z: bool, reverse: bool
) -> None:
    """Computed from the float32 values: they are chosen so that rounding them would show."""
    function, inputs, halves, dt, flags, roundings = _sequence_forms()[form]
    types = {**dict.fromkeys(halves, half), dt: torch.float32 if wide_dt else half,
             "z": torch.float32 if wide_z else half}  # fmt: skip
    low = {k: v.to(types.get(k, torch.float32)).requires_grad_() for k, v in inputs.items()}
    high = {k: v.detach().double().requires_grad_() for k, v in low.items()}
    y = function(**low, **flags, reverse=reverse)
    expected = function(**high, **flags, reverse=reverse)
    assert y.dtype == half
    limit = (roundings + 1) * LIMITS[half]
    scale = expected.square().mean().sqrt()
    assert ((y.double() - expected).abs() <= limit * (expected.abs() + scale)).all()
    grad = _draw(8)(*y.shape)
    y.backward(grad.to(half))
    expected.backward(grad.to(half).double())
    for name, leaf in low.items():
        assert leaf.grad.dtype == leaf.dtype, name
        exact = high[name].grad
        error = (leaf.grad.double() - exact).abs() / (exact.abs() + exact.square().mean().sqrt())
        assert error.max() <= 2 * limit, f"{name}: {error.max()}"


@pytest.mark.parametrize("form", ["ssd", "scan"])
def test_other_mixtures_are_refused(form: str) -> None:
    function, inputs, halves, dt, flags, _ = _sequence_forms()[form]
    for x_type, dt_type in itertools.permutations((torch.bfloat16, torch.float16), 2):
        low = {k: v.to(x_type if k in (*halves, "z") else dt_type if k == dt else v.dtype) for k, v in inputs.items()}
        with pytest.raises(ValueError, match=f"{dt} is .*, expected .* or f32"):
            function(**low, **flags)
    with pytest.raises(ValueError, match=f"{dt} is bf16, expected f32"):
        function(**{**inputs, dt: inputs[dt].bfloat16()}, **flags)


@pytest.mark.parametrize("form", ["ssd", "scan"])
def test_autocast_widens_narrower_steps_and_gates(form: str) -> None:
    function, inputs, _, dt, flags, _ = _sequence_forms()[form]
    narrow = {**inputs, dt: inputs[dt].bfloat16(), "z": inputs["z"].bfloat16()}
    with torch.autocast("cpu", torch.bfloat16):
        y = function(**narrow, **flags)
    assert torch.equal(y, function(**{k: v.float() for k, v in narrow.items()}, **flags))

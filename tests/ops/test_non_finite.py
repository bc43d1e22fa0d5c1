"""No value reaches a step, channel, head, batch row or sequence that it does not influence, forward or backward.

A value that is NaN or infinite is put into one place of one input; what the float64 reference then has finite must be
finite and right in every kernel, and what it has not must not be.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import abi
import cases
import numpy as np
import pytest
import torch
from tolerance import RELATIVE

from mambasdk import ops
from mambasdk.ops._library import adapter

OPS = ("ssd", "selective_scan", "mlstm", "ssd_state_update", "selective_state_update", "mlstm_state_update")
BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _profiles(op: str) -> list[cases.Case]:
    wanted = ("tail-all", "chunks-all", "bare", "with-seq_idx", "with-cu_seqlens", "flag-reverse", "scalars2")
    return [c for c in cases.cases(op) if c.id in wanted and not c.is_empty]


def _poison(arguments: Mapping[str, Any], name: str, value: float, which: int) -> dict[str, Any]:
    tensor = arguments[name].clone()
    place = zlib.crc32(f"{name}{which}".encode()) % tensor.numel()
    tensor.view(-1)[place] = value
    return {**arguments, name: tensor}


def _expect_contained(op: str, arguments: Mapping[str, Any], isa: str, types: cases.Types, what: str) -> None:
    reference = abi.call(op, list(cases.widened(op, arguments).values()), abi.REFERENCE)
    with abi.isa(isa):
        actual = abi.call(op, list(arguments.values()))
    for output, value, expected in zip(adapter.signature(op).outputs, actual, reference, strict=True):
        if value is None or expected is None or not value.is_floating_point():
            continue
        finite = torch.isfinite(expected)
        reached = torch.isfinite(value) != finite
        assert not reached.any(), (
            f"{what}: {output.name} at {reached.nonzero()[0].tolist()} is {value[reached][0]}, "
            f"the reference has {expected[reached][0]}"
        )
        if not finite.any():
            continue
        # Of the finite values alone, to the precision of a call without such values.
        scale = expected[finite].abs() + expected[finite].square().mean().sqrt()
        error = ((value[finite].double() - expected[finite]).abs() / scale.clamp_min(1e-300)).max()
        limit = max(RELATIVE[value.dtype], cases.floor(op, types))
        assert error <= limit, f"{what}: {output.name} is off by {error}"


def _inputs(arguments: Mapping[str, Any]) -> list[str]:
    return [k for k, v in arguments.items() if isinstance(v, torch.Tensor) and v.is_floating_point() and v.numel()]


@pytest.mark.parametrize("isa", abi.isas())
@pytest.mark.parametrize("types", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("op", OPS)
def test_a_value_reaches_only_what_it_influences(op: str, types: str, isa: str) -> None:
    chosen = cases.type_choices(op)[types]
    for case in _profiles(op):
        arguments = cases.values(case, chosen)
        for name in _inputs(arguments):
            for which, (bad, value) in enumerate(BAD.items()):
                if name == "A" and value > 0 and op == "selective_state_update":
                    continue  # its decays end at 2^127.9, which is growth without bound anyway
                poisoned = _poison(arguments, name, value, which)
                _expect_contained(op, poisoned, isa, chosen, f"{case} {types} {isa}: {name} has {bad}")


@pytest.mark.parametrize("isa", abi.isas())
@pytest.mark.parametrize("types", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("op", OPS)
def test_a_value_reaches_only_the_gradients_that_it_influences(op: str, types: str, isa: str) -> None:
    chosen = cases.type_choices(op)[types]
    for case in _profiles(op):
        backward, arguments = cases.backward_case(case, chosen)
        arguments = {k: None if k == "chunk_states" else v for k, v in arguments.items()}
        for name in _inputs(arguments):
            poisoned = _poison(arguments, name, math.nan, 0)
            _expect_contained(backward, poisoned, isa, chosen, f"{case} backward {types} {isa}: {name} has nan")


# ---- examples ----


def _loop(x: np.ndarray, dt: np.ndarray, A: np.ndarray, B: np.ndarray, C: np.ndarray, new: np.ndarray) -> np.ndarray:
    """ssd of one batch row: x (L,H,P), dt (L,H), A (H), B, C (L,N); `new` (L): the state is zero before the step."""
    state = np.zeros((*x.shape[1:], B.shape[-1]))
    y = np.zeros_like(x)
    for t in range(x.shape[0]):
        for h in range(x.shape[1]):
            decay = np.exp(dt[t, h] * A[h])
            before = np.zeros_like(state[h]) if new[t] or decay == 0.0 else decay * state[h]
            state[h] = before + dt[t, h] * x[t, h][:, None] * B[t]
            y[t, h] = state[h] @ C[t]
    return y


def _ssd_example(length: int = 150) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return {
        "x": draw(1, length, 2, 5),
        "dt": draw(1, length, 2).abs() * 0.3,
        "A": torch.tensor([-0.5, -1.0]),
        "B": draw(1, length, 4),
        "C": draw(1, length, 4),
    }


def test_nan_does_not_reach_the_past() -> None:
    one = torch.ones(1, 2, 1)
    y = ops.ssd(torch.tensor([1.0, math.nan]).view(1, 2, 1, 1), one * 0.1, -torch.ones(1), one, one)
    assert y[0, 0].item() == pytest.approx(0.1)
    assert y[0, 1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("step", [0, 63, 64, 100])
def test_nan_stays_in_its_sequence(dtype: torch.dtype, step: int) -> None:
    inputs = {k: v if k == "A" else v.to(dtype) for k, v in _ssd_example().items()}
    inputs["x"][0, step, 1, 2] = math.nan
    index = (torch.arange(150) // 50)[None].to(torch.int32)
    new = np.arange(150) % 50 == 0
    y = ops.ssd(**inputs, seq_idx=index)[0].double().numpy()
    exact = {k: v.double().numpy() if k == "A" else v[0].double().numpy() for k, v in inputs.items()}
    expected = _loop(**exact, new=new)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_allclose(y, expected, rtol=0.05, atol=0.05, equal_nan=True)
    offsets = torch.tensor([0, 50, 100, 150], dtype=torch.int32)
    packed = ops.ssd(**inputs, cu_seqlens=offsets)[0].double().numpy()
    np.testing.assert_array_equal(np.isnan(packed), np.isnan(expected))


@pytest.mark.parametrize("function", [ops.ssd, ops.selective_scan])
def test_infinite_decay_forgets(function: Callable[..., Any]) -> None:
    """A of minus infinity: the state is what the step itself puts in, the gradients are finite."""
    if function is ops.ssd:
        inputs = {**_ssd_example(), "A": torch.tensor([-math.inf, -1.0])}
        names = ("x", "dt", "B", "C")
        expected = _loop(**{k: v.double().numpy() if k == "A" else v[0].double().numpy() for k, v in inputs.items()},
                         new=np.zeros(150, dtype=bool))  # fmt: skip
    else:
        generator = torch.Generator().manual_seed(5)
        draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
        A = -torch.ones(3, 4)
        A[1] = -math.inf
        inputs = {"u": draw(1, 150, 3), "delta": draw(1, 150, 3).abs(), "A": A, "B": draw(1, 150, 4),
                  "C": draw(1, 150, 4)}  # fmt: skip
        names = ("u", "delta", "B", "C")
        u, dt, b, c = (inputs[k][0].double().numpy() for k in names)
        h = np.zeros((3, 4))
        expected = np.zeros((150, 3))
        for t in range(150):
            h = np.exp(dt[t][:, None] * A.double().numpy()) * h + (dt[t] * u[t])[:, None] * b[t]
            expected[t] = h @ c[t]
    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items()}
    y = function(**leaves)
    np.testing.assert_allclose(y[0].detach().double().numpy(), expected, rtol=1e-4, atol=1e-4)
    y.sum().backward()
    for name in names:
        assert leaves[name].grad.isfinite().all(), name
    forgets = inputs["A"] == -math.inf
    assert (leaves["A"].grad[forgets] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nan_of_the_gradient_stays_in_its_sequence(dtype: torch.dtype) -> None:
    inputs = {k: (v if k == "A" else v.to(dtype)).requires_grad_() for k, v in _ssd_example().items()}
    index = (torch.arange(150) // 50)[None].to(torch.int32)
    grad = torch.ones(1, 150, 2, 5, dtype=dtype)
    grad[0, 120, 0, 1] = math.nan
    ops.ssd(**inputs, seq_idx=index).backward(grad)
    for name in ("x", "dt", "B", "C"):
        assert inputs[name].grad[:, :100].isfinite().all(), name
    assert inputs["x"].grad[:, 100:121, 0, 1].isnan().all()
    assert inputs["x"].grad[:, 121:].isfinite().all()
    assert inputs["x"].grad[:, :, 1].isfinite().all()


def _mlstm_example(length: int = 150) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    rows = {name: draw(1, length, 2, 5) for name in ("q", "k", "v")}
    return {**rows, "igate": draw(1, length, 2), "fgate": 2.0 * draw(1, length, 2) + 2.0}


@pytest.mark.parametrize("isa", abi.isas())
@pytest.mark.parametrize("chunk", [7, 64, 1024])
def test_a_forget_gate_of_minus_infinity_begins_a_sequence(chunk: int, isa: str) -> None:
    """In values and gradients it is a border of packed sequences, wherever in a chunk; its own gradient is 0."""
    begins = [0, 3, 63, 64, 65, 140, 150]
    given = _mlstm_example()
    offsets = torch.tensor(begins, dtype=torch.int32)
    found = []
    with abi.isa(isa):
        for packed in (True, False):
            leaves = {name: tensor.clone() for name, tensor in given.items()}
            if not packed:
                leaves["fgate"][:, begins[1:-1]] = -math.inf
            leaves = {name: tensor.requires_grad_() for name, tensor in leaves.items()}
            h = ops.mlstm(**leaves, chunk=chunk, cu_seqlens=offsets if packed else None)
            (h * given["v"].roll(1, 1)).sum().backward()
            found.append({"h": h.detach(), **{name: leaf.grad for name, leaf in leaves.items()}})
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert (found[1]["fgate"][:, begins[1:-1]] == 0.0).all()


@pytest.mark.parametrize("step", [0, 1, 63, 64, 100])
def test_an_input_gate_of_minus_infinity_takes_nothing(step: int) -> None:
    """What the step would have put in is as if it were 0, and its k, v and gate have no gradient."""
    given = _mlstm_example()
    given["igate"][:, step] = -math.inf
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    h = ops.mlstm(**leaves)
    given["v"][:, step], given["k"][:, step] = 100.0, 100.0
    torch.testing.assert_close(ops.mlstm(**given), h, rtol=0.0, atol=0.0)
    h.sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves.values())
    assert all((leaves[name].grad[:, step] == 0.0).all() for name in ("k", "v", "igate"))


def test_nan_of_the_normaliser_is_not_hidden_by_its_least_value() -> None:
    given = _mlstm_example(3)
    state = ops.MLSTMMemory(torch.zeros(1, 2, 5, 5), torch.zeros(1, 2, 5), torch.zeros(1, 2))
    state.n[0, 1, 2] = math.nan
    h = ops.mlstm(**given, initial_state=state)
    row, _ = ops.mlstm_state_update(state, **{name: tensor[:, 0] for name, tensor in given.items()})
    for heads in (h[0, 0], row[0]):
        assert heads[0].isfinite().all()
        assert heads[1].isnan().all()


# ---- the range of float16 ----


def test_float16_gradients_with_a_state_beyond_its_range() -> None:
    """States are near 1e6 at the chunk border; y, scaled down by C, and all gradients fit float16."""
    length = 160
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    inputs = {
        "x": draw(1, length, 2, 8).abs() * 300,
        "dt": torch.full((1, length, 2), 0.25),
        "A": torch.tensor([-0.01, -0.02]),
        "B": draw(1, length, 4).abs() * 300,
        "C": draw(1, length, 4) * 1e-5,
    }
    grad = draw(1, length, 2, 8) * 1e-3
    low = {k: (v if k == "A" else v.half()).requires_grad_() for k, v in inputs.items()}
    high = {k: v.detach().double().requires_grad_() for k, v in low.items()}
    _, state = ops.ssd(**low, return_final_state=True)
    assert state.abs().max() > 65504
    ops.ssd(**low).backward(grad.half())
    ops.ssd(**high).backward(grad.half().double())
    for name, leaf in low.items():
        assert leaf.grad.isfinite().all(), name
        scale = high[name].grad.square().mean().sqrt()
        assert (leaf.grad.double() - high[name].grad).abs().max() < 0.01 * scale + 2**-10 * high[name].grad.abs().max()


def test_float16_gate_beside_an_output_beyond_its_range() -> None:
    """y before the gate is near 3e5, z near -9: y and every gradient fit float16."""
    length = 70
    inputs = {
        "x": torch.full((1, length, 1, 4), 100.0),
        "dt": torch.full((1, length, 1), 1.0),
        "A": torch.tensor([-1e-3]),
        "B": torch.full((1, length, 1), 10.0),
        "C": torch.full((1, length, 1), 10.0),
        "z": torch.full((1, length, 1, 4), -9.0),
    }
    low = {k: (v if k == "A" else v.half()).requires_grad_() for k, v in inputs.items()}
    high = {k: v.detach().double().requires_grad_() for k, v in low.items()}
    grad = torch.full((1, length, 1, 4), 1e-2)
    y = ops.ssd(**low)
    assert y.isfinite().all()
    y.backward(grad.half())
    ops.ssd(**high).backward(grad.half().double())
    for name, leaf in low.items():
        torch.testing.assert_close(leaf.grad.double(), high[name].grad, rtol=0.01, atol=1e-3)


# ---- dims of zero ----


def _zero_cases() -> list[cases.Case]:
    out = []
    for op in OPS:
        whole = [c for c in cases.cases(op) if c.id in ("tail-all", "with-order", "with-cu_seqlens")]
        for case in whole:
            for dim in case.dims:
                if dim in ("S", "K", "M", "E") or (dim == "P" and op == "selective_scan"):
                    continue
                dims = {**case.dims, dim: 0}
                if dim == "G":
                    dims |= {"D": 0} if "D" in dims else {"H": 0}
                if dim == "B":
                    if "cu_seqlens" in case.given:
                        continue
                    dims["S"] = 0
                if dim == "L":
                    if "order" in case.given:
                        continue
                    dims |= {"M": 0, **({"P": 0} if op == "selective_scan" else {})}
                out.append(replace(case, id=f"{case.id}-no-{dim}", dims=dims))
    return out


@pytest.mark.parametrize("isa", abi.isas())
@pytest.mark.parametrize("case", _zero_cases(), ids=str)
def test_dims_of_zero(case: cases.Case, isa: str) -> None:
    """Outputs start as NaN: every element is written, with what the reference writes."""
    for types in ("float32", "bfloat16"):
        chosen = cases.type_choices(case.op)[types]
        _expect_contained(case.op, cases.values(case, chosen), isa, chosen, f"{case} {types} {isa}")
        backward, arguments = cases.backward_case(case, chosen)
        _expect_contained(backward, arguments, isa, chosen, f"{case} backward {types} {isa}")


def test_selective_scan_without_states_passes_its_input_through() -> None:
    generator = torch.Generator().manual_seed(2)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    u, z, D = draw(2, 70, 5).requires_grad_(), draw(2, 70, 5).requires_grad_(), draw(5).requires_grad_()
    none = torch.empty(2, 70, 0)
    y, state = ops.selective_scan(
        u, draw(2, 70, 5).abs(), torch.empty(5, 0), none, none, D=D, z=z, return_final_state=True
    )
    assert state.shape == (2, 5, 0)
    expected = u * D * torch.nn.functional.silu(z)
    torch.testing.assert_close(y, expected)
    grads = torch.autograd.grad(y.square().sum(), (u, z, D))
    for grad, exact in zip(grads, torch.autograd.grad(expected.square().sum(), (u, z, D)), strict=True):
        torch.testing.assert_close(grad, exact, rtol=1e-4, atol=1e-4)
    assert (ops.selective_scan(u, draw(2, 70, 5).abs(), torch.empty(5, 0), none, none) == 0).all()

"""Elementwise operations and their derivatives against PyTorch's own functions, which know nothing of our formulas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from mambasdk import ops

UNARY: dict[str, tuple[Callable[..., torch.Tensor], dict[str, Any]]] = {
    "absolute": (torch.abs, {}),
    "ceil": (torch.ceil, {}),
    "clamp": (lambda x: x.clamp(-1.5, 2.0), {"min": -1.5, "max": 2.0}),
    "cos": (torch.cos, {}),
    "elu": (lambda x: functional.elu(x, 0.3), {"alpha": 0.3}),
    "erf": (torch.erf, {}),
    "floor": (torch.floor, {}),
    "hardsigmoid": (lambda x: functional.relu6(x + 3) / 6, {}),  # torch's own has a float32 1 / 6 in its gradient
    "hardswish": (functional.hardswish, {}),
    "log_sigmoid": (functional.logsigmoid, {}),
    "logical_not": (lambda x: torch.logical_not(x).to(x.dtype) + 0 * x, {}),
    "mish": (functional.mish, {}),
    "negate": (torch.neg, {}),
    "reciprocal": (torch.reciprocal, {}),
    "round": (torch.round, {}),
    "sign": (torch.sign, {}),
    "sin": (torch.sin, {}),
    "square": (torch.square, {}),
    "widen": (lambda x: x.float(), {}),
    "gelu": (functional.gelu, {}),
    "gelu_tanh": (lambda x: functional.gelu(x, approximate="tanh"), {}),
    "leaky_relu": (lambda x: functional.leaky_relu(x, 0.2), {"slope": 0.2}),
    "neg_exp": (lambda x: -x.exp(), {}),
    "relu": (functional.relu, {}),
    "scale": (lambda x: -0.7 * x, {"factor": -0.7}),
    "sigmoid": (torch.sigmoid, {}),
    "silu": (functional.silu, {}),
    "softplus": (functional.softplus, {}),
    "squared_relu": (lambda x: functional.relu(x).square(), {}),
    "tanh": (torch.tanh, {}),
}
POSITIVE: dict[str, Callable[..., torch.Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "rsqrt": torch.rsqrt,
    "sqrt": torch.sqrt,
}
BINARY: dict[str, tuple[tuple[str, str], Callable[..., torch.Tensor]]] = {
    "add": (("x", "y"), torch.add),
    "divide": (("x", "y"), torch.div),
    "maximum": (("x", "y"), torch.maximum),
    "minimum": (("x", "y"), torch.minimum),
    "multiply": (("x", "y"), torch.mul),
    "subtract": (("x", "y"), torch.sub),
    "silu_mul": (("gate", "x"), lambda gate, x: functional.silu(gate) * x),
}


def _compare(mine: torch.Tensor, theirs: torch.Tensor, given: list[torch.Tensor], tolerance: float) -> None:
    torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance, check_dtype=False)
    weight = torch.linspace(-1, 2, mine.numel(), dtype=mine.dtype).reshape(mine.shape)
    ours = torch.autograd.grad((mine * weight).sum(), given)
    expected = torch.autograd.grad((theirs * weight).sum(), given)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def _points(dtype: torch.dtype, shift: float = 0.0) -> torch.Tensor:
    """From far below 0 to far above, past the kinks but not on them."""
    return (torch.linspace(-30, 30, 601, dtype=dtype) + 0.013 + shift).requires_grad_()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@pytest.mark.parametrize("op", UNARY)
def test_one_argument(op: str, dtype: torch.dtype, tolerance: float) -> None:
    function, scalars = UNARY[op]
    x = _points(dtype)
    if op == "widen":
        tolerance = 1e-6
    if op == "neg_exp":  # e^30 in float32
        x = (x.detach() / 10).requires_grad_()
        tolerance = 2e-5
    _compare(ops.call(op, x=x, **scalars), function(x), [x], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@pytest.mark.parametrize("op", BINARY)
def test_two_arguments(op: str, dtype: torch.dtype, tolerance: float) -> None:
    names, function = BINARY[op]
    x, y = _points(dtype), _points(dtype, 3.0)
    _compare(ops.call(op, **dict(zip(names, (x, y), strict=True))), function(x, y), [x, y], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@pytest.mark.parametrize("op", POSITIVE)
def test_one_positive_argument(op: str, dtype: torch.dtype, tolerance: float) -> None:
    x = torch.logspace(-6, 1, 601, dtype=dtype).requires_grad_()
    mine, theirs = ops.call(op, x=x), POSITIVE[op](x)
    torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=0)
    ours, expected = (torch.autograd.grad(y.sum(), x)[0] for y in (mine, theirs))
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=0)


# ---- every pair of special values ----

SPECIAL = (
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.0,
    -1.0,
    1.5,
    2.0,
    -2.5,
    3.0,
    -7.0,
    1e-40,
    1e-20,
    -1e30,
    3e38,
    math.inf,
    -math.inf,
    math.nan,
)
PAIRS = torch.tensor(list(itertools.product(SPECIAL, SPECIAL)), dtype=torch.float32)
OF_PAIRS: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "divide": torch.div,
    "equal": torch.eq,
    "floor_divide": torch.floor_divide,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "multiply": torch.mul,
    "not_equal": torch.ne,
    "power": torch.pow,
    "remainder": torch.remainder,
    "subtract": torch.sub,
}
OF_ONE: dict[str, Callable[..., torch.Tensor]] = {
    "absolute": torch.abs,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "elu": functional.elu,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "hardsigmoid": functional.hardsigmoid,
    "log": torch.log,
    "log1p": torch.log1p,
    "log_sigmoid": functional.logsigmoid,
    "logical_not": torch.logical_not,
    "negate": torch.neg,
    "reciprocal": torch.reciprocal,
    "round": torch.round,
    "rsqrt": torch.rsqrt,
    "sign": torch.sign,
    "sin": torch.sin,
    "sqrt": torch.sqrt,
    "square": torch.square,
}


def _same(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(mine, theirs.to(mine.dtype), rtol=2e-6, atol=2e-6, equal_nan=True)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("op", OF_PAIRS)
def test_special_values_in_pairs(op: str) -> None:
    x, y = PAIRS[:, 0].contiguous(), PAIRS[:, 1].contiguous()
    expected = OF_PAIRS[op](x, y)
    if op == "remainder":  # torch's vectors overflow where the quotient does
        expected = torch.stack([torch.remainder(a, b) for a, b in zip(x, y, strict=True)])
    _same(ops.call(op, x=x, y=y), expected)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("op", OF_ONE)
def test_special_values(op: str) -> None:
    x = torch.tensor(SPECIAL)
    if op in ("sin", "cos"):  # test_angles says how far they are exact
        x = x[~((x.abs() > 1e8) & x.isfinite())]
    _same(ops.call(op, x=x), OF_ONE[op](x))


def test_gradients_where_arguments_are_equal() -> None:
    grid = torch.tensor([-1.0, 0.0, 2.0])
    x, y = (t.flatten().contiguous() for t in torch.meshgrid(grid, grid, indexing="ij"))
    for op, function in {"maximum": torch.maximum, "minimum": torch.minimum, "power": torch.pow}.items():
        mine, theirs = ([t.clone().requires_grad_() for t in (x, y)] for _ in range(2))
        ops.call(op, x=mine[0], y=mine[1]).sum().backward()
        function(*theirs).sum().backward()
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a.grad, b.grad, equal_nan=True)


@pytest.mark.usefixtures("isa")
def test_where_takes_what_the_condition_says() -> None:
    condition = torch.tensor([0.0, -0.0, 1.0, -3.0, math.nan, 1e-45])
    x, y = torch.full((6,), math.inf), torch.full((6,), math.nan)
    assert torch.equal(ops.call("where", condition=condition, x=x, y=-x), torch.where(condition != 0, x, -x))
    assert ops.call("where", condition=condition, x=x, y=y).isnan().tolist() == [True, True, False, False, False, False]
    x, y = x.requires_grad_(), y.requires_grad_()
    ops.call("where", condition=condition, x=x, y=y).backward(torch.ones(6))
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 1]
    assert y.grad.tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("op", ["sin", "cos"])
def test_angles(op: str) -> None:
    """float32's accuracy up to 1e4 and well beyond, and a sine of something at any size."""
    x = torch.cat([torch.linspace(-r, r, 200001) for r in (1e-3, 10.0, 1e4, 1e6)])
    exact = getattr(torch, op)(x.double())
    assert float((ops.call(op, x=x).double() - exact).abs().max()) <= 2e-7
    near = torch.arange(1, 6000).double() * math.pi / 2  # where one of them is nearly 0
    x = near.float()
    torch.testing.assert_close(ops.call(op, x=x).double(), getattr(torch, op)(x.double()), rtol=3e-7, atol=1e-10)
    far = torch.tensor([1e9, -1e20, 3e38])
    assert bool((ops.call(op, x=far).abs() <= 1).all())


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("op", ["exp", "log", "log1p", "erf", "elu"])
def test_relative_accuracy(op: str) -> None:
    x = torch.logspace(-30, 1.9, 200001)
    x = torch.cat([x, -x]) if op in ("exp", "erf", "elu") else x
    exact = {"elu": functional.elu}.get(op, getattr(torch, op, None))(x.double())
    error = (ops.call(op, x=x).double() - exact).abs() / exact.abs().clamp_min(1e-37)
    assert float(error.max()) <= 5e-7


@pytest.mark.usefixtures("isa")
def test_powers_of_any_size() -> None:
    x = torch.logspace(-37, 38, 3001).repeat(8)
    y = torch.linspace(-60, 60, 8).repeat_interleave(3001)
    exact = x.double() ** y.double()
    mine = ops.call("power", x=x, y=y)
    ordinary = (exact > 1.2e-38) & (exact < 3.4e38)
    assert float((mine[ordinary] / exact[ordinary] - 1).abs().max()) <= 1e-6
    assert bool((mine[exact > 3.5e38] == math.inf).all())
    assert bool((mine[exact < 1e-46] == 0).all())


# ---- broadcast and permuted arguments ----

SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "scalar": ((3, 5, 7), ()),
    "one": ((3, 5, 7), (1, 1, 1)),
    "channels": ((2, 3, 5, 70), (70,)),
    "few channels": ((40, 33, 3), (3,)),
    "many channels": ((3, 1500), (1500,)),
    "columns": ((30, 70), (30, 1)),
    "per image": ((3, 4, 5, 64), (3, 1, 1, 64)),
    "both": ((5, 1, 40), (1, 33, 1)),
    "middle": ((4, 6, 50), (4, 1, 50)),
    "mask": ((2, 3, 17, 17), (2, 1, 1, 17)),
    "empty": ((0, 4), (4,)),
}
ORDERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t,
    "reversed": lambda t: t.permute(tuple(range(t.dim())[::-1])).contiguous().permute(tuple(range(t.dim())[::-1])),
    "rotated": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0) if t.dim() > 1 else t,
    "gaps": lambda t: torch.cat([t, t], -1)[..., : t.shape[-1]] if t.dim() > 0 else t,
    "every second": lambda t: t.repeat_interleave(2, -1)[..., ::2] if t.dim() > 0 else t,
}


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shapes", SHAPES)
def test_broadcasting(shapes: str, order: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (ORDERS[order](torch.randn(s, generator=generator).to(dtype)) for s in SHAPES[shapes])
    for a, b in ((x, y), (y, x), (x, ORDERS["reversed"](y)), (ORDERS["rotated"](x), y)):
        wide_a, wide_b = torch.broadcast_tensors(a, b)
        assert torch.equal(ops.call("add", x=wide_a, y=wide_b), a + b)
        assert torch.equal(ops.call("multiply", x=wide_a, y=wide_b), a * b)
        chosen = ops.call("where", condition=(wide_a > 0).to(dtype), x=wide_a, y=wide_b)
        assert torch.equal(chosen, torch.where(a > 0, a, b))
    assert ops.call("negate", x=x).is_contiguous()
    assert torch.equal(ops.call("negate", x=x), -x)


def test_large_permuted_arguments() -> None:
    """Tiles in every dim, whole and cut."""
    x = torch.randn(2, 67, 131, 19)
    for dims in itertools.permutations(range(4)):
        a = x.permute(*dims)
        shape = a.shape
        for b in (torch.randn(shape), torch.randn(shape[3], shape[0], shape[1], shape[2]).permute(1, 2, 3, 0)):
            assert torch.equal(ops.call("add", x=a, y=b), a + b)

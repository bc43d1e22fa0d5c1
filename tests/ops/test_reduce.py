"""Reductions, softmax and running sums against PyTorch, which does them in float64 here."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from drawn import draw
from tolerance import RELATIVE, error

from mambasdk import ops

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SHAPES = [
    (1, 1),
    (5, 7),
    (3, 300, 2),
    (2, 600, 1),
    (2, 2, 9, 1100),
    (40000, 1),
    (33, 65),
    (300, 40),
    (0, 4, 4),
    (3, 4, 0),
]
VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t,
    "columns": lambda t: t.mT.contiguous().mT,
    "rotated": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0),
    "gaps": lambda t: torch.cat([t, t], -1)[..., : t.shape[-1]],
}
isa = pytest.mark.usefixtures("isa")
FLOAT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum_rows": lambda x: x.sum(-2),
    "mean_rows": lambda x: x.mean(-2),
    "product_rows": lambda x: x.prod(-2),
    "max_rows": lambda x: x.amax(-2),
    "min_rows": lambda x: x.amin(-2),
    "cumulative_sum": lambda x: x.cumsum(-2),
}
ARGUMENT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "argmax_rows": lambda x: x.argmax(-2),
    "argmin_rows": lambda x: x.argmin(-2),
}


@isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", FLOAT)
def test_reductions(op: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = draw(*shape, dtype=torch.float64)
    x = ((x * 0.05).exp() * x.sign() if op == "product_rows" else x).to(dtype)
    exact = FLOAT[op](x.double())
    for name, view in VIEWS.items():
        y = ops.call(op, x=view(x))
        assert y.dtype == dtype
        assert y.shape == exact.shape
        assert error(y, exact) <= RELATIVE[dtype], name


@isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", ARGUMENT)
def test_places_of_extremes(op: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Rounded to few values, so that there are equals: the first counts."""
    x = draw(*shape).round().to(dtype)
    sought = x if op == "argmax_rows" else -x
    for poison in (False, True):
        if poison and x.numel() > 0:
            sought.view(-1)[sought.numel() // 2 :: 7] = math.nan
            x = sought if op == "argmax_rows" else -sought
        largest = sought.amax(-2, keepdim=True)
        first = ((sought == largest) | sought.isnan() & largest.isnan()).int().argmax(-2)
        for name, view in VIEWS.items():
            assert torch.equal(ops.call(op, x=view(x)), first.int()), name


@isa
@pytest.mark.parametrize("op", ["max_rows", "min_rows", "sum_rows", "product_rows", "cumulative_sum"])
def test_what_is_no_number_stays_so(op: str) -> None:
    for length in (1, 3, 40, 700):
        for columns in (1, 3, 40):
            for bad in (math.nan, math.inf, -math.inf):
                x = torch.ones(length, columns)
                x[length // 2, columns // 2] = bad
                expected = FLOAT[op](x)
                for view in VIEWS.values():
                    torch.testing.assert_close(ops.call(op, x=view(x)), expected, equal_nan=True)
    x = torch.tensor([[math.inf], [1.0], [-math.inf], [2.0]])
    torch.testing.assert_close(ops.call(op, x=x), FLOAT[op](x), equal_nan=True)


@pytest.mark.parametrize("op", ["max_rows", "min_rows", "argmax_rows", "argmin_rows"])
def test_nothing_has_no_extreme(op: str) -> None:
    with pytest.raises(ValueError, match=f"{op}: x has (no|0) rows, expected"):
        ops.call(op, x=torch.ones(2, 0, 3))


def test_reductions_over_nothing() -> None:
    nothing = torch.ones(2, 0, 3)
    assert torch.equal(ops.call("sum_rows", x=nothing), torch.zeros(2, 3))
    assert torch.equal(ops.call("product_rows", x=nothing), torch.ones(2, 3))
    assert ops.call("cumulative_sum", x=nothing).shape == (2, 0, 3)


@isa
def test_running_sums_do_not_drift() -> None:
    x = draw(100000, 3) + 1
    for view in (x, x[:, :1]):
        exact = view.double().cumsum(0)
        assert float((ops.call("cumulative_sum", x=view).double() / exact - 1).abs().max()) <= 2e-7


# ---- softmax ----


@isa
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 16), (3, 2, 197), (2, 5000), (300, 3), (4, 0), (0, 4)], ids=str)
def test_softmax(shape: tuple[int, ...], dtype: torch.dtype, log: bool) -> None:
    x = (draw(*shape) * 8).to(dtype)
    exact = (torch.log_softmax if log else torch.softmax)(x.double(), -1)
    for view in (x, x.movedim(0, -1).contiguous().movedim(-1, 0), torch.cat([x, x], -1)[..., : x.shape[-1]]):
        y = ops.call("softmax", x=view, log=log)
        assert error(y, exact) <= RELATIVE[dtype]


@isa
@pytest.mark.parametrize("log", [False, True])
def test_softmax_of_infinities_and_of_what_is_no_number(log: bool) -> None:
    for n in (2, 17, 40):
        rows = torch.zeros(6, n)
        rows[0] = -math.inf
        rows[1, 1:] = -math.inf
        rows[2, n // 2] = math.nan
        rows[3, n // 2] = math.inf
        rows[4] = 1e38
        rows[5, ::2] = -1e38
        expected = (torch.log_softmax if log else torch.softmax)(rows.double(), -1).float()
        torch.testing.assert_close(ops.call("softmax", x=rows, log=log), expected, equal_nan=True)
        whole = ops.call("softmax", x=rows.bfloat16(), log=log)
        assert torch.equal(whole.isnan(), expected.isnan())

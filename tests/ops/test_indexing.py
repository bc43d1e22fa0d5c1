"""gather, scatter, sort and topk against PyTorch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from drawn import draw
from tolerance import RELATIVE, error

from mambasdk import ops

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
isa = pytest.mark.usefixtures("isa")
# (*, L, M, D)
SHAPES = [
    (1, 1, 1),
    (5, 9, 1),
    (9, 5, 70),
    (2, 3, 30, 7, 3),
    (3, 400, 11, 40),
    (2, 4, 0, 5),
    (1, 9000, 50, 1),
    (2, 50, 9, 1030),
]


def _index(lead: tuple[int, ...], rows: int, columns: int, count: int, whole: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows + columns)
    if whole:
        return torch.randint(0, count, (*lead, rows, 1), generator=generator).int().expand(*lead, rows, columns)
    return torch.randint(0, count, (*lead, rows, columns), generator=generator).int()


@pytest.mark.parametrize("whole", [False, True], ids=["elements", "rows"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gather(shape: tuple[int, ...], dtype: torch.dtype, whole: bool) -> None:
    *lead, length, rows, columns = shape
    x = draw(*lead, length, columns, dtype=dtype)
    index = _index(tuple(lead), rows, columns, length, whole)
    expected = torch.gather(x, -2, index.long())
    for view in (x, x.mT.contiguous().mT, x[..., :1].expand(x.shape)):
        wanted = expected if view is x or view.stride(-1) != 0 else torch.gather(view, -2, index.long())
        assert torch.equal(ops.call("gather", x=view, index=index), wanted)
    assert torch.equal(ops.call("gather", x=x, index=index.mT.contiguous().mT), expected)


@isa
@pytest.mark.parametrize("whole", [False, True], ids=["elements", "rows"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scatter_add(shape: tuple[int, ...], dtype: torch.dtype, whole: bool) -> None:
    *lead, length, rows, columns = shape
    rows = max(rows, 1)
    x, initial = draw(*lead, length, columns, dtype=dtype), draw(*lead, rows, columns, seed=1, dtype=dtype)
    index = _index(tuple(lead), length, columns, rows, whole)
    exact = initial.double().scatter_add(-2, index.long(), x.double())
    for view in (lambda t: t, lambda t: t.mT.contiguous().mT):
        y = ops.call("scatter_add", initial=view(initial), index=index, x=view(x))
        assert error(y, exact) <= RELATIVE[dtype]
    assert error(ops.call("scatter_add", initial=initial, index=index.contiguous(), x=x), exact) <= RELATIVE[dtype]


@isa
@pytest.mark.parametrize("whole", [False, True], ids=["elements", "rows"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_last_write_wins(shape: tuple[int, ...], dtype: torch.dtype, whole: bool) -> None:
    *lead, length, rows, columns = shape
    rows = max(rows, 1)
    x, initial = draw(*lead, length, columns, dtype=dtype), draw(*lead, rows, columns, seed=1, dtype=dtype)
    index = _index(tuple(lead), length, columns, rows, whole)
    expected = initial.clone()
    for step in range(length):  # torch leaves the order open
        expected.scatter_(-2, index[..., step : step + 1, :].long(), x[..., step : step + 1, :])
    for view in (lambda t: t, lambda t: t.mT.contiguous().mT):
        assert torch.equal(ops.call("scatter", initial=view(initial), index=index, x=view(x)), expected)


@pytest.mark.parametrize("include", [False, True], ids=["replaced", "included"])
@pytest.mark.parametrize("whole", [False, True], ids=["elements", "rows"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scatter_max(shape: tuple[int, ...], dtype: torch.dtype, whole: bool, include: bool) -> None:
    *lead, length, rows, columns = shape
    rows = max(rows, 1)
    x, initial = draw(*lead, length, columns, dtype=dtype), draw(*lead, rows, columns, seed=1, dtype=dtype)
    x.view(-1)[3::97] = math.nan
    index = _index(tuple(lead), length, columns, rows, whole)
    expected = initial.scatter_reduce(-2, index.long(), x, "amax", include_self=include)
    for view in (lambda t: t, lambda t: t.mT.contiguous().mT):
        y = ops.call("scatter_max", initial=view(initial), index=index, x=view(x), include_initial=include)
        torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)


def test_nothing_to_scatter() -> None:
    initial, none, x = draw(2, 3, 4), torch.empty(2, 0, 4, dtype=torch.int32), torch.empty(2, 0, 4)
    for op in ("scatter", "scatter_add", "scatter_max"):
        assert torch.equal(ops.call(op, initial=initial, index=none, x=x), initial)


@isa
def test_sums_follow_the_order_of_the_rows() -> None:
    """float32 loses the small ones after the large one, whatever else is added meanwhile."""
    for columns in (1, 16, 70):
        x = torch.tensor([1e8, 1.0, 1.0, -1e8, 1.0])[:, None].expand(5, columns)
        index = torch.zeros(5, 1, dtype=torch.int32).expand(5, columns)
        y = ops.call("scatter_add", initial=torch.zeros(2, columns), index=index, x=x)
        assert torch.equal(y, torch.tensor([[1.0], [0.0]]).expand(2, columns))


@pytest.mark.parametrize("value", [-1, 5, 2**31 - 1, -(2**31)])
def test_an_index_outside_is_refused(value: int) -> None:
    index = torch.zeros(2, 3, 4, dtype=torch.int32)
    index[1, 2, 1] = value
    x = torch.ones(2, 5, 4)
    calls: dict[str, dict[str, Any]] = {
        "gather": {"x": x, "index": index},
        "scatter": {"initial": x, "index": index, "x": torch.ones(2, 3, 4)},
        "scatter_add": {"initial": x, "index": index, "x": torch.ones(2, 3, 4)},
        "scatter_max": {"initial": x, "index": index, "x": torch.ones(2, 3, 4)},
    }
    for op, arguments in calls.items():
        what = "x" if op == "gather" else "initial"
        with pytest.raises(ValueError, match=f"{op}: element 21 of index is {value}, expected a row of {what}, 0 to 4"):
            ops.call(op, **arguments)


# ---- orders ----


def _values(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Few different numbers, signed zeros, infinities and NaN among them."""
    x = (draw(*shape) * 2).round() / 2
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-40])
    flat = x.view(-1)
    flat[::5] = special[torch.arange(len(flat[::5])) % len(special)]
    return x.to(dtype)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 50), (2, 3, 300), (40, 2), (5000,), (0, 3), (3, 0)], ids=str)
def test_sort(shape: tuple[int, ...], dtype: torch.dtype, descending: bool) -> None:
    x = _values(shape, dtype)
    expected = torch.sort(x, dim=-1, descending=descending, stable=True)
    for view in (x, x.movedim(0, -1).contiguous().movedim(-1, 0), torch.cat([x, x], -1)[..., : x.shape[-1]]):
        values, indices = ops.call("sort", x=view, descending=descending)
        assert torch.equal(indices, expected.indices.int())
        torch.testing.assert_close(values, expected.values, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(values.signbit(), expected.values.signbit())


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 50), (2, 3, 300), (5000,), (0, 3), (3, 0)], ids=str)
def test_topk(shape: tuple[int, ...], dtype: torch.dtype, largest: bool) -> None:
    """The first of equals, which torch leaves open: as a stable sort has them."""
    x = _values(shape, dtype)
    expected = torch.sort(x, dim=-1, descending=largest, stable=True)
    for k in {0, min(1, shape[-1]), shape[-1] // 3, shape[-1]}:
        for view in (x, torch.cat([x, x], -1)[..., : x.shape[-1]]):
            values, indices = ops.call("topk", x=view, k=k, largest=largest)
            assert torch.equal(indices, expected.indices[..., :k].int())
            torch.testing.assert_close(values, expected.values[..., :k], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(values, torch.topk(x, k, largest=largest).values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("k", [-1, 8, 1000])
def test_topk_of_more_than_there_are(k: int) -> None:
    with pytest.raises(ValueError, match=f"topk: k is {k}, expected (at least 0|0 to 7, the elements in a row of x)"):
        ops.call("topk", x=torch.ones(2, 7), k=k)

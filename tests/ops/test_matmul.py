"""matmul against torch's, in float64: shapes on every path, views of every stride, broadcast factors."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from drawn import draw
from tolerance import assert_close

from mambasdk import ops

pytestmark = pytest.mark.usefixtures("isa")

# lead, M, K, N
SHAPES = [
    ((3,), 7, 7, 7),
    ((2, 5), 49, 32, 49),
    ((65,), 3, 5, 2),  # more than there are groups of products
    ((), 130, 140, 150),  # one for all threads
    ((2,), 200, 130, 110),
    ((4,), 1, 33, 65),
    ((4,), 33, 16, 1),
    ((2,), 20, 1, 40),
    ((3,), 4, 300, 31),
    ((2, 2), 33, 193, 97),
]

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
    "apart": lambda t: torch.stack([t, t], -1)[..., 0],
    "rows apart": lambda t: torch.cat([t, t], -1)[..., : t.shape[-1]],
    "one row": lambda t: t[..., :1, :].expand_as(t),
    "one column": lambda t: t[..., :1].expand_as(t),
}


def check(x: torch.Tensor, y: torch.Tensor, what: str) -> None:
    assert_close(ops.call("matmul", x=x, y=y), x.double() @ y.double(), what)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_of_every_layout(shape: tuple[tuple[int, ...], int, int, int], dtype: torch.dtype) -> None:
    lead, M, K, N = shape
    x, y = draw(*lead, M, K, seed=1).to(dtype), draw(*lead, K, N, seed=2).to(dtype)
    for (a, of_x), (b, of_y) in itertools.product(LAYOUTS.items(), LAYOUTS.items()):
        check(of_x(x), of_y(y), f"x {a}, y {b}")


def test_broadcast_factors_are_expanded_views() -> None:
    x, y = draw(2, 3, 9, 5), draw(2, 3, 5, 40, seed=2)
    check(x[:, :1].expand(2, 3, 9, 5), y, "x along one dim")
    check(x, y[:1, :1].expand(2, 3, 5, 40), "y along both")
    check(x.transpose(0, 1), y.transpose(0, 1), "leading dims in another order")


@pytest.mark.parametrize("zero", ["lead", "M", "K", "N"])
def test_nothing(zero: str) -> None:
    n = {"lead": 2, "M": 3, "K": 4, "N": 5, zero: 0}
    out = ops.call("matmul", x=torch.ones(n["lead"], n["M"], n["K"]), y=torch.ones(n["lead"], n["K"], n["N"]))
    assert torch.equal(out, torch.full((n["lead"], n["M"], n["N"]), float(n["K"])))


def test_leading_dims_must_be_the_same() -> None:
    with pytest.raises(ValueError, match=r"matmul: y is \(3, 4, 5\), expected \(2, 4, "):
        ops.call("matmul", x=torch.ones(2, 3, 4), y=torch.ones(3, 4, 5))

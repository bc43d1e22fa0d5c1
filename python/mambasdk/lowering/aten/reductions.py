"""Sums, means, extremes and softmax over dims, and sums so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mambasdk.lowering.aten.broadcast import elementwise_of
from mambasdk.lowering.aten.elementwise import scaled
from mambasdk.lowering.extents import Extent, product
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers

Dims = Sequence[int] | int | None


def reduced(g: Graph, op: str, x: Operand, dims: Dims, keep: bool, dtype: str = "f32") -> Operand:
    """`op` (…, L, D) -> (…, D) over dims of the graph, all of them for None or none."""
    x = g.floats(x)
    named = [dims] if isinstance(dims, int) else list(dims or range(x.ndim))
    gone = sorted({x.dim(d) for d in named})
    if not x.ndim:
        return x
    places = sorted(x.order[d] for d in gone)
    inverse = list(x.inverse)
    if places == list(range(places[0], places[-1] + 1)):
        before, after = inverse[: places[0]], inverse[places[-1] + 1 :]
    else:  # those that stay, then those that go
        before, after = [d for d in inverse if d not in gone], []
        places = [len(before)]
    middle = [d for d in inverse if d in gone]
    seen = x.permuted([*before, *middle, *after])
    rows = [x.shape[d] for d in before]
    flat = g.reshape(seen, (*rows, product(x.shape[d] for d in middle), product(x.shape[d] for d in after)))
    value = g.op(op, x=flat)
    kept = [*before, *after]
    made = Operand(
        g.program.reshape(value, g.texts([x.shape[d] for d in kept])), tuple(x.shape[d] for d in kept), dtype=dtype
    )
    made = made.permuted([kept.index(d) for d in sorted(kept)])
    return g.reshape(made, [1 if d in gone else x.shape[d] for d in range(x.ndim)]) if keep else made


@lowers("aten.mean.dim")
def mean(g: Graph, x: Operand, dims: Dims, keepdim: bool = False, **_: object) -> Operand:
    return reduced(g, "mean_rows", x, dims, keepdim)


@lowers("aten.mean.default")
def mean_of_all(g: Graph, x: Operand, **_: object) -> Operand:
    return reduced(g, "mean_rows", x, None, False)


@lowers("aten.sum.dim_IntList")
def sum_(g: Graph, x: Operand, dims: Dims, keepdim: bool = False, **_: object) -> Operand:
    return reduced(g, "sum_rows", x, dims, keepdim)


@lowers("aten.sum.default")
def sum_of_all(g: Graph, x: Operand, **_: object) -> Operand:
    return reduced(g, "sum_rows", x, None, False)


@lowers("aten.prod.dim_int")
def prod(g: Graph, x: Operand, dim: int, keepdim: bool = False, **_: object) -> Operand:
    return reduced(g, "product_rows", x, dim, keepdim)


@lowers("aten.amax.default")
def amax(g: Graph, x: Operand, dims: Dims = None, keepdim: bool = False) -> Operand:
    return reduced(g, "max_rows", x, dims, keepdim)


@lowers("aten.amin.default")
def amin(g: Graph, x: Operand, dims: Dims = None, keepdim: bool = False) -> Operand:
    return reduced(g, "min_rows", x, dims, keepdim)


@lowers("aten.max.default")
def max_of_all(g: Graph, x: Operand) -> Operand:
    return reduced(g, "max_rows", x, None, False)


@lowers("aten.min.default")
def min_of_all(g: Graph, x: Operand) -> Operand:
    return reduced(g, "min_rows", x, None, False)


@lowers("aten.max.dim")
def max_(g: Graph, x: Operand, dim: int, keepdim: bool = False) -> list[Operand]:
    return [reduced(g, "max_rows", x, dim, keepdim), reduced(g, "argmax_rows", x, dim, keepdim, "i32")]


@lowers("aten.min.dim")
def min_(g: Graph, x: Operand, dim: int, keepdim: bool = False) -> list[Operand]:
    return [reduced(g, "min_rows", x, dim, keepdim), reduced(g, "argmin_rows", x, dim, keepdim, "i32")]


@lowers("aten.argmax.default")
def argmax(g: Graph, x: Operand, dim: int | None = None, keepdim: bool = False) -> Operand:
    return _argument(g, "argmax_rows", x, dim, keepdim)


@lowers("aten.argmin.default")
def argmin(g: Graph, x: Operand, dim: int | None = None, keepdim: bool = False) -> Operand:
    return _argument(g, "argmin_rows", x, dim, keepdim)


def _argument(g: Graph, op: str, x: Operand, dim: int | None, keep: bool) -> Operand:
    if dim is None:
        x, dim = g.reshape(x, (product(x.shape),)), 0
    return reduced(g, op, x, dim, keep, "i32")


@lowers("aten.any.dim", "aten.any.default")
def any_(g: Graph, x: Operand, dims: Dims = None, keepdim: bool = False) -> Operand:
    return reduced(g, "max_rows", elementwise_of(g, x.shape, "not_equal", x, 0.0), dims, keepdim)


@lowers("aten.all.dim", "aten.all.default")
def all_(g: Graph, x: Operand, dims: Dims = None, keepdim: bool = False) -> Operand:
    return reduced(g, "min_rows", elementwise_of(g, x.shape, "not_equal", x, 0.0), dims, keepdim)


@lowers("aten.var.correction")
def var(g: Graph, x: Operand, dims: Dims = None, *, correction: float | None = None, keepdim: bool = False) -> Operand:
    return variance(g, x, dims, 1.0 if correction is None else float(correction), keepdim)[0]


@lowers("aten.var.dim")
def var_dim(g: Graph, x: Operand, dims: Dims, unbiased: bool = True, keepdim: bool = False) -> Operand:
    return variance(g, x, dims, float(unbiased), keepdim)[0]


@lowers("aten.std.dim")
def std_dim(g: Graph, x: Operand, dims: Dims, unbiased: bool = True, keepdim: bool = False) -> Operand:
    return elementwise_of(g, g.shape, "sqrt", variance(g, x, dims, float(unbiased), keepdim)[0])


@lowers("aten.std.correction")
def std(g: Graph, x: Operand, dims: Dims = None, *, correction: float | None = None, keepdim: bool = False) -> Operand:
    return elementwise_of(g, g.shape, "sqrt", var(g, x, dims, correction=correction, keepdim=keepdim))


@lowers("aten.var_mean.correction")
def var_mean(
    g: Graph, x: Operand, dims: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> list[Operand]:
    return list(variance(g, x, dims, 1.0 if correction is None else float(correction), keepdim))


def variance(g: Graph, x: Operand, dims: Dims, correction: float, keep: bool) -> tuple[Operand, Operand]:
    """Of the squared distances from the mean, in a second pass; and the mean."""
    named = [dims] if isinstance(dims, int) else list(dims or range(x.ndim))
    count: Extent = product(x.shape[x.dim(d)] for d in named)
    middle = reduced(g, "mean_rows", x, named, True)
    squares = elementwise_of(g, x.shape, "square", elementwise_of(g, x.shape, "subtract", x, middle))
    result = reduced(g, "mean_rows", squares, named, keep)
    if correction:
        if not isinstance(count, int):
            total = reduced(g, "sum_rows", squares, named, keep)
            ones = g.expand(g.number(1.0), x.shape)
            free = elementwise_of(g, total.shape, "subtract", reduced(g, "sum_rows", ones, named, keep), correction)
            result = elementwise_of(g, total.shape, "divide", total, free)
        else:
            result = scaled(g, result, count / (count - correction))  # type: ignore[assignment]
    return result, middle if keep else g.reshape(middle, result.shape)


@lowers("aten.linalg_vector_norm.default", "aten.norm.ScalarOpt_dim")
def vector_norm(
    g: Graph, x: Operand, order: float = 2, dims: Dims = None, keepdim: bool = False, **_: object
) -> Operand:
    if order == 2:
        return elementwise_of(
            g, g.shape, "sqrt", reduced(g, "sum_rows", elementwise_of(g, x.shape, "square", x), dims, keepdim)
        )
    size = elementwise_of(g, x.shape, "absolute", x)
    if order == 1:
        return reduced(g, "sum_rows", size, dims, keepdim)
    if order in (float("inf"), float("-inf")):
        return reduced(g, "max_rows" if order > 0 else "min_rows", size, dims, keepdim)
    total = reduced(g, "sum_rows", elementwise_of(g, x.shape, "power", size, float(order)), dims, keepdim)
    return elementwise_of(g, g.shape, "power", total, 1 / float(order))


def _softmax(g: Graph, x: Operand, dim: int, log: bool) -> Operand:
    x = g.floats(x)
    d = x.dim(dim)
    places = [p for p in x.inverse if p != d] + [d]
    value = g.op("softmax", x=g.arranged(x, places), log=log)
    return Operand(value, x.shape, tuple(places.index(i) for i in range(x.ndim)))


@lowers("aten.softmax.int", "aten._softmax.default")
def softmax(g: Graph, x: Operand, dim: int, *_: object, **__: object) -> Operand:
    return _softmax(g, x, dim, False)


@lowers("aten.log_softmax.int", "aten._log_softmax.default")
def log_softmax(g: Graph, x: Operand, dim: int, *_: object, **__: object) -> Operand:
    return _softmax(g, x, dim, True)


@lowers("aten.logsumexp.default")
def logsumexp(g: Graph, x: Operand, dims: Sequence[int], keepdim: bool = False) -> Operand:
    top = reduced(g, "max_rows", x, dims, True)
    terms = elementwise_of(g, x.shape, "exp", elementwise_of(g, x.shape, "subtract", x, top))
    total = elementwise_of(g, top.shape, "log", reduced(g, "sum_rows", terms, dims, True))
    return g.reshape(elementwise_of(g, top.shape, "add", total, top), g.shape)


def along(g: Graph, op: str, x: Operand, dim: int, **numbers: Any) -> Operand:
    """`op` (…, L, D) -> (…, L, D) along a dim of the graph."""
    x = g.floats(x)
    place = x.order[x.dim(dim)]
    stored = Operand(x.value, x.stored_shape, breaks=x.breaks)
    rows = g.reshape(stored, (*stored.shape[: place + 1], product(stored.shape[place + 1 :])))
    value = g.program.reshape(g.op(op, x=rows, **numbers), g.texts(stored.shape))
    return Operand(value, x.shape, x.order)


@lowers("aten.cumsum.default")
def cumsum(g: Graph, x: Operand, dim: int, **_: object) -> Operand:
    return along(g, "cumulative_sum", x, dim) if x.ndim else x

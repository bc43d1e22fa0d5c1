"""Rows by index, gathering, scattering, sorting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mambasdk.errors import LoweringError
from mambasdk.lowering.aten.broadcast import elementwise_of
from mambasdk.lowering.extents import Extent, is_same, product
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers


@lowers("aten.embedding.default")
def embedding(g: Graph, weight: Operand, indices: Operand, *_: object) -> Operand:
    return g.operand(g.op("embedding", indices=g.indices(indices), weight=weight), (*indices.shape, weight.shape[1]))


def rows_at(g: Graph, x: Operand, dim: int, index: Operand) -> Operand:
    """X with the dim replaced by the dims of `index`, which counts along it."""
    d = x.dim(dim)
    front = g.floats(x).permuted([d, *(i for i in range(x.ndim) if i != d)])
    table = g.reshape(front, (front.shape[0], product(front.shape[1:])))
    found = g.op("embedding", indices=g.indices(index), weight=table)
    made = g.reshape(g.operand(found, (*index.shape, table.shape[1])), (*index.shape, *front.shape[1:]))
    n, k = index.ndim, x.ndim - 1
    return made.permuted([*range(n, n + d), *range(n), *range(n + d, n + k)])


@lowers("aten.index_select.default")
def index_select(g: Graph, x: Operand, dim: int, index: Operand) -> Operand:
    return rows_at(g, x, dim, index)


@lowers("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(g: Graph, x: Operand, indices: Sequence[Operand | None]) -> Operand:
    """Index tensors on dims that stand beside each other count along those dims taken as one."""
    places = [d for d, i in enumerate(indices) if i is not None]
    found = [i for i in indices if i is not None]
    if any(str(node.meta["val"].dtype) == "torch.bool" for node in g.node.args[1] if node is not None):
        raise LoweringError("a mask as an index: the shape of the result depends on its values")
    if places != list(range(places[0], places[-1] + 1)):
        raise LoweringError("index tensors on dims that do not stand beside each other")
    shape = _broadcast([i.shape for i in found])
    at: Operand | None = None
    for d, i in zip(places, found, strict=True):
        size = x.shape[d]
        step = _nonnegative(g, i, size)
        if at is None:
            at = step
            continue
        ahead = elementwise_of(g, at.shape, "multiply", at, g.extent(size))
        at = elementwise_of(g, _broadcast([ahead.shape, step.shape]), "add", ahead, step)
    assert at is not None
    flat = g.reshape(x, (*x.shape[: places[0]], product(x.shape[d] for d in places), *x.shape[places[-1] + 1 :]))
    return rows_at(g, flat, places[0], g.expand(at, shape))


def _broadcast(shapes: Sequence[Sequence[Extent]]) -> tuple[Extent, ...]:
    ndim = max(len(shape) for shape in shapes)
    result: list[Extent] = [1] * ndim
    for shape in shapes:
        for i, extent in enumerate(reversed(shape)):
            if not is_same(extent, 1):
                result[ndim - 1 - i] = extent
    return tuple(result)


def _nonnegative(g: Graph, index: Operand, size: Extent) -> Operand:
    """Counted from the front: torch takes negative indices. Indices that operations gave are never negative."""
    if index.dtype == "i32" and index.value.reference[:2] in ("%v", "@p"):
        return index
    x = g.floats(index)
    ahead = elementwise_of(g, x.shape, "add", x, g.extent(size))
    return elementwise_of(g, x.shape, "where", elementwise_of(g, x.shape, "less", x, 0.0), ahead, x)


def _rows(g: Graph, x: Operand, dim: int) -> Operand:
    """(…, L, D) with L the dim, in the order of the graph."""
    shape = x.shape
    return g.reshape(x, (*shape[: dim + 1], product(shape[dim + 1 :])))


def _like(g: Graph, x: Operand, dim: int, extents: Sequence[Extent]) -> Operand:
    """The leading part of x that an index of fewer entries addresses."""
    for d, extent in enumerate(extents):
        if d != dim:
            x = g.slice(x, d, 0, extent)
    return x


@lowers("aten.gather.default")
def gather(g: Graph, x: Operand, dim: int, index: Operand, **_: object) -> Operand:
    d = x.dim(dim)
    source = _rows(g, _like(g, g.floats(x), d, index.shape), d)
    value = g.op("gather", x=source, index=_rows(g, g.indices(index), d))
    return g.operand(g.program.reshape(value, g.texts(index.shape)), index.shape)


def _scattered(
    g: Graph, op: str, initial: Operand, dim: int, index: Operand, source: Operand, **flags: bool
) -> Operand:
    d = initial.dim(dim)
    source = _like(g, g.floats(source), -1, index.shape)
    for e, extent in enumerate(index.shape):
        if e != d and not is_same(extent, initial.shape[e]):
            raise LoweringError("scattering into a part of the other dims")
    rows = [_rows(g, x, d) for x in (g.floats(initial), g.indices(index), source)]
    value = g.op(op, **dict(zip(("initial", "index", "x"), rows, strict=True)), **flags)
    return g.operand(g.program.reshape(value, g.texts(initial.shape)), initial.shape)


@lowers("aten.scatter_add.default")
def scatter_add(g: Graph, x: Operand, dim: int, index: Operand, source: Operand) -> Operand:
    return _scattered(g, "scatter_add", x, dim, index, source)


@lowers("aten.scatter_reduce.two")
def scatter_reduce(
    g: Graph, x: Operand, dim: int, index: Operand, source: Operand, reduce: str, include_self: bool = True
) -> Operand:
    if reduce == "sum" and include_self:
        return _scattered(g, "scatter_add", x, dim, index, source)
    if reduce != "amax":
        raise LoweringError(f"scatter_reduce by {reduce}" + ("" if include_self else " without what was there"))
    return _scattered(g, "scatter_max", x, dim, index, source, include_initial=include_self)


@lowers("aten.scatter.src")
def scatter(g: Graph, x: Operand, dim: int, index: Operand, source: Operand) -> Operand:
    return _scattered(g, "scatter", x, dim, index, source)


@lowers("aten.scatter.value")
def scatter_value(g: Graph, x: Operand, dim: int, index: Operand, value: float) -> Operand:
    return _scattered(g, "scatter", x, dim, index, g.expand(g.number(value), index.shape))


@lowers("aten.index_add.default")
def index_add(g: Graph, x: Operand, dim: int, index: Operand, source: Operand, alpha: float = 1) -> Operand:
    if alpha != 1:
        raise LoweringError("index_add with a factor")
    d = x.dim(dim)
    column = g.reshape(index, [index.shape[0] if i == d else 1 for i in range(x.ndim)])
    return _scattered(g, "scatter_add", x, dim, g.expand(column, source.shape), source)


def _ordered(g: Graph, op: str, x: Operand, dim: int, **numbers: Any) -> list[Operand]:
    x = g.floats(x)
    d = x.dim(dim)
    places = [i for i in range(x.ndim) if i != d] + [d]
    values, found = g.ops(op, ["values", "indices"], x=g.arranged(x, places), **numbers)
    shape = g.shape_of(g.node.meta["val"][0])
    order = tuple(places.index(i) for i in range(x.ndim))
    return [Operand(values, shape, order), Operand(found, shape, order, dtype="i32")]


@lowers("aten.sort.default")
def sort(g: Graph, x: Operand, dim: int = -1, descending: bool = False) -> list[Operand]:
    return _ordered(g, "sort", x, dim, descending=descending)


@lowers("aten.sort.stable")
def sort_stable(g: Graph, x: Operand, *, stable: bool | None, dim: int = -1, descending: bool = False) -> list[Operand]:
    return _ordered(g, "sort", x, dim, descending=descending)


@lowers("aten.argsort.default", "aten.argsort.stable")
def argsort(g: Graph, x: Operand, dim: int = -1, descending: bool = False, **_: object) -> Operand:
    x = g.floats(x)
    d = x.dim(dim)
    places = [i for i in range(x.ndim) if i != d] + [d]
    _values, found = g.ops("sort", ["values", "indices"], x=g.arranged(x, places), descending=descending)
    return Operand(found, x.shape, tuple(places.index(i) for i in range(x.ndim)), dtype="i32")


@lowers("aten.topk.default")
def topk(g: Graph, x: Operand, k: Extent, dim: int = -1, largest: bool = True, *_: bool) -> list[Operand]:
    return _ordered(g, "topk", x, dim, k=k, largest=largest)

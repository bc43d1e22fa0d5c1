"""Tensors out of nothing, and changes of type."""

from __future__ import annotations

import torch

from mambasdk.lowering.aten.broadcast import elementwise, elementwise_of
from mambasdk.lowering.aten.elementwise import truncated
from mambasdk.lowering.extents import Extent
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers


def filled(g: Graph, value: Extent) -> Operand:
    """The number, or the extent, repeated to the node's shape."""
    number = float(value) if isinstance(value, (int, float)) else g.extent(value)
    return g.expand(g.tensor(number), g.shape)


@lowers("aten.full.default")
def full(g: Graph, _: object, value: float, **__: object) -> Operand:
    return filled(g, value)


@lowers("aten.full_like.default", "aten.new_full.default")
def full_like(g: Graph, _: object, *values: object, **__: object) -> Operand:
    return filled(g, values[-1])


@lowers("aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default", "aten.empty.memory_format")
@lowers("aten.empty_like.default", "aten.empty_permuted.default", "aten.new_empty.default")
def zeros(g: Graph, *_: object, **__: object) -> Operand:
    return filled(g, 0.0)


@lowers("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default")
def ones(g: Graph, *_: object, **__: object) -> Operand:
    return filled(g, 1.0)


@lowers("aten.fill.Scalar", "aten.fill.Tensor")
def fill(g: Graph, x: Operand, value: Operand | float) -> Operand:
    return g.expand(g.tensor(value), g.shape)


@lowers("aten.copy.default")
def copy(g: Graph, x: Operand, source: Operand, *_: object) -> Operand:
    return g.expand(source, g.shape)


@lowers("aten.scalar_tensor.default")
def scalar_tensor(g: Graph, value: float, **_: object) -> Operand:
    return g.number(float(value))


def counted(g: Graph, length: Extent, start: float, step: float) -> Operand:
    """start, start + step, …, as float32."""
    if isinstance(length, int):
        values = torch.arange(length, dtype=torch.float64) * step + start
        return g.constant(values.to(torch.float32))
    value = g.op("arange", like=g.expand(g.number(0.0), (length,)), start=float(start), step=float(step))
    return g.operand(value, (length,))


@lowers("aten.arange.default")
def arange(g: Graph, end: Extent, **_: object) -> Operand:
    return counted(g, g.shape[0], 0.0, 1.0)


@lowers("aten.arange.start")
def arange_start(g: Graph, start: Extent, end: Extent, **_: object) -> Operand:
    return _from(g, start, 1.0)


@lowers("aten.arange.start_step")
def arange_step(g: Graph, start: Extent, end: Extent, step: Extent = 1, **_: object) -> Operand:
    return _from(g, start, float(step))


def _from(g: Graph, start: Extent, step: float) -> Operand:
    if isinstance(start, (int, float)):
        return counted(g, g.shape[0], float(start), step)
    return elementwise(g, "add", counted(g, g.shape[0], 0.0, step), g.extent(start))


@lowers("aten.linspace.default")
def linspace(g: Graph, start: float, end: float, steps: int, **_: object) -> Operand:
    return g.constant(torch.linspace(start, end, steps, dtype=torch.float64).to(torch.float32))


@lowers("aten._to_copy.default", "aten.to.dtype", "aten.type_as.default")
def to_copy(g: Graph, x: Operand, *_: object, **__: object) -> Operand:
    before, after = g.node.args[0].meta["val"].dtype, g.node.meta["val"].dtype
    if after == torch.bool and before != torch.bool:
        return elementwise(g, "not_equal", x, 0.0)
    if before.is_floating_point and not after.is_floating_point:
        return truncated(g, g.floats(x))
    return x


@lowers("aten.tril.default", "aten.triu.default")
def triangle(g: Graph, x: Operand, diagonal: int = 0) -> Operand:
    rows, columns = g.shape[-2:]
    i = g.reshape(counted(g, rows, 0.0, 1.0), (rows, 1))
    j = counted(g, columns, 0.0, 1.0)
    ahead = elementwise_of(g, (rows, columns), "subtract", j, i)
    lower = "tril" in str(g.node.target)
    inside = elementwise_of(g, (rows, columns), "less_equal" if lower else "greater_equal", ahead, float(diagonal))
    return elementwise(g, "where", inside, x, 0.0)


@lowers("aten.meshgrid.indexing", "aten.meshgrid.default")
def meshgrid(g: Graph, tensors: list[Operand], indexing: str = "ij") -> list[Operand]:
    results = []
    for i, (x, value) in enumerate(zip(tensors, g.node.meta["val"], strict=True)):
        shape = g.shape_of(value)
        place = (1 - i if i < 2 else i) if indexing == "xy" else i
        column = g.reshape(x, [x.shape[0] if d == place else 1 for d in range(len(shape))])
        results.append(g.expand(column, shape))
    return results

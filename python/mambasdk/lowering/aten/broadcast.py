"""Elementwise operations of any number of arguments with broadcasting, for the entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mambasdk.lowering.extents import Extent, is_same
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand


def elementwise(g: Graph, op: str, *arguments: Operand | float, **numbers: Any) -> Operand:
    """`op` of arguments that are broadcast to the node's shape; the result lies as the largest argument does.

    numbers: the operation's own arguments that are no tensors.
    """
    return elementwise_of(g, g.shape, op, *arguments, **numbers)


def elementwise_of(g: Graph, shape: Sequence[Extent], op: str, *arguments: Operand | float, **numbers: Any) -> Operand:
    """The same for another shape than the node's."""
    operands = [g.tensor(argument) for argument in arguments]
    order = _order(operands, shape)
    inverse = [order.index(p) for p in range(len(order))]
    names = [name for name, p in g.signature(op).parameters.items() if p.scalar is None]
    values = {}
    for name, x in zip(names, operands, strict=False):
        values[name] = g.arranged(g.expand(x, shape), inverse)
    return Operand(g.op(op, **values, **numbers), tuple(shape), order)


def _order(operands: Sequence[Operand], shape: Sequence[Extent]) -> tuple[int, ...]:
    """That of an argument of the whole shape; one that is no plain order wins."""
    whole = [x.order for x in operands if x.ndim == len(shape) and all(map(is_same, x.shape, shape))]
    plain = tuple(range(len(shape)))
    return next((order for order in whole if order != plain), plain)

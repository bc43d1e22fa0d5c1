"""Dense layers and products of matrices."""

from __future__ import annotations

from mambasdk.lowering.aten.broadcast import elementwise
from mambasdk.lowering.aten.elementwise import scaled
from mambasdk.lowering.fused import ACTIVATIONS
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers


@lowers("aten.linear.default", "fused.linear")
def linear(
    g: Graph,
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    residual: Operand | None = None,
    activation: str = "none",
    slope: float = 0.0,
    residual_last: bool = False,
) -> Operand:
    """X keeps its layout where its last dim lies last."""
    x = g.floats(x)
    if x.order[-1] != x.ndim - 1:
        x = Operand(g.plain(x), x.shape)
    shape = (*x.shape[:-1], weight.shape[0])
    ending = activation != "none" or residual is not None
    rounding = g.program.rounding(weight.value)
    if not ending and (g.program.states or not weight.is_fixed):
        return g.operand(g.op("linear", x=x.value, weight=weight, bias=bias, **rounding), shape, x.order)
    ends = {"activation": list(ACTIVATIONS).index(activation), "slope": float(slope), "residual_last": residual_last}
    ends |= rounding
    last = None if residual is None else g.arranged(g.floats(residual), x.inverse)
    packed = g.packed(weight)
    value = g.op("linear_packed", x=x.value, weight=packed, bias=bias, residual=last, features=weight.shape[0], **ends)
    return g.operand(value, shape, x.order)


@lowers("aten.matmul.default", "aten.mm.default", "aten.bmm.default")
def matmul(g: Graph, x: Operand, y: Operand) -> Operand:
    if y.ndim == 2 and y.is_fixed:
        return linear(g, x, y.permuted((1, 0)))
    x, y = g.floats(x), g.floats(y)
    a = g.reshape(x, (1, *x.shape)) if x.ndim == 1 else x
    b = g.reshape(y, (*y.shape, 1)) if y.ndim == 1 else y
    lead = g.shape[: len(g.shape) - (x.ndim > 1) - (y.ndim > 1)]
    a, b = g.expand(a, (*lead, *a.shape[-2:])), g.expand(b, (*lead, *b.shape[-2:]))
    made = g.operand(g.op("matmul", x=a, y=b), (*lead, a.shape[-2], b.shape[-1]))
    return g.reshape(made, g.shape)


@lowers("aten.addmm.default")
def addmm(g: Graph, c: Operand, x: Operand, y: Operand, beta: float = 1, alpha: float = 1) -> Operand:
    product_ = scaled(g, matmul(g, x, y), alpha)
    return elementwise(g, "add", product_, scaled(g, c, beta))


@lowers("aten.baddbmm.default")
def baddbmm(g: Graph, c: Operand, x: Operand, y: Operand, beta: float = 1, alpha: float = 1) -> Operand:
    return addmm(g, c, x, y, beta, alpha)


@lowers("aten.dot.default")
def dot(g: Graph, x: Operand, y: Operand) -> Operand:
    rows = g.op("matmul", x=g.reshape(g.floats(x), (1, x.shape[0])), y=g.reshape(g.floats(y), (y.shape[0], 1)))
    return g.reshape(g.operand(rows, (1, 1)), ())


@lowers("aten.outer.default")
def outer(g: Graph, x: Operand, y: Operand) -> Operand:
    return elementwise(g, "multiply", g.reshape(x, (x.shape[0], 1)), y)

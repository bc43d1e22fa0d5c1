"""Elementwise functions, comparisons and selection."""

from __future__ import annotations

from collections.abc import Callable

from mambasdk.lowering.aten.broadcast import elementwise, elementwise_of
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers

Number = Operand | float

_UNARY = {
    "abs": "absolute",
    "ceil": "ceil",
    "cos": "cos",
    "erf": "erf",
    "exp": "exp",
    "floor": "floor",
    "hardsigmoid": "hardsigmoid",
    "hardswish": "hardswish",
    "log": "log",
    "log1p": "log1p",
    "log_sigmoid": "log_sigmoid",
    "logical_not": "logical_not",
    "bitwise_not": "logical_not",
    "mish": "mish",
    "neg": "negate",
    "reciprocal": "reciprocal",
    "relu": "relu",
    "round": "round",
    "rsqrt": "rsqrt",
    "sigmoid": "sigmoid",
    "sign": "sign",
    "silu": "silu",
    "sin": "sin",
    "sqrt": "sqrt",
    "square": "square",
    "tanh": "tanh",
}
_BINARY = {
    "__and__.Tensor": "logical_and",
    "__or__.Tensor": "logical_or",
    "bitwise_and.Tensor": "logical_and",
    "bitwise_or.Tensor": "logical_or",
    "eq.Scalar": "equal",
    "eq.Tensor": "equal",
    "floor_divide.default": "floor_divide",
    "ge.Scalar": "greater_equal",
    "ge.Tensor": "greater_equal",
    "gt.Scalar": "greater",
    "gt.Tensor": "greater",
    "le.Scalar": "less_equal",
    "le.Tensor": "less_equal",
    "bitwise_xor.Tensor": "not_equal",
    "logical_and.default": "logical_and",
    "logical_or.default": "logical_or",
    "lt.Scalar": "less",
    "lt.Tensor": "less",
    "maximum.default": "maximum",
    "minimum.default": "minimum",
    "mul.Scalar": "multiply",
    "mul.Tensor": "multiply",
    "ne.Scalar": "not_equal",
    "ne.Tensor": "not_equal",
    "pow.Scalar": "power",
    "pow.Tensor_Tensor": "power",
    "remainder.Scalar": "remainder",
    "remainder.Tensor": "remainder",
}


def _unary(op: str) -> Callable[[Graph, Operand], Operand]:
    def entry(g: Graph, x: Operand) -> Operand:
        return elementwise(g, op, x)

    return entry


def _binary(op: str) -> Callable[[Graph, Number, Number], Operand]:
    def entry(g: Graph, x: Number, y: Number) -> Operand:
        return elementwise(g, op, x, y)

    return entry


for _name, _op in _UNARY.items():
    lowers(f"aten.{_name}.default")(_unary(_op))
for _name, _op in _BINARY.items():
    lowers(f"aten.{_name}")(_binary(_op))


def scaled(g: Graph, x: Number, factor: float) -> Number:
    """Factor * x, before broadcasting."""
    if not isinstance(x, Operand):
        return factor * x
    return x if factor == 1 else elementwise_of(g, x.shape, "scale", x, factor=float(factor))


@lowers("aten.add.Tensor", "aten.add.Scalar")
def add(g: Graph, x: Number, y: Number, alpha: float = 1) -> Operand:
    return elementwise(g, "add", x, scaled(g, y, alpha))


@lowers("aten.sub.Tensor", "aten.sub.Scalar")
def sub(g: Graph, x: Number, y: Number, alpha: float = 1) -> Operand:
    return elementwise(g, "subtract", x, scaled(g, y, alpha))


@lowers("aten.rsub.Scalar", "aten.rsub.Tensor")
def rsub(g: Graph, x: Number, y: Number, alpha: float = 1) -> Operand:
    return elementwise(g, "subtract", y, scaled(g, x, alpha))


@lowers("aten.div.Tensor", "aten.div.Scalar", "aten.true_divide.Tensor")
def div(g: Graph, x: Number, y: Number) -> Operand:
    return elementwise(g, "divide", x, y)


@lowers("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def div_mode(g: Graph, x: Number, y: Number, rounding_mode: str | None = None) -> Operand:
    if rounding_mode == "floor":
        return elementwise(g, "floor_divide", x, y)
    quotient = elementwise(g, "divide", x, y)
    return quotient if rounding_mode is None else truncated(g, quotient)


def truncated(g: Graph, x: Operand) -> Operand:
    """Rounded towards 0."""
    down = elementwise_of(g, x.shape, "floor", x)
    up = elementwise_of(g, x.shape, "ceil", x)
    return elementwise_of(g, x.shape, "where", elementwise_of(g, x.shape, "less", x, 0.0), up, down)


@lowers("aten.trunc.default")
def trunc(g: Graph, x: Operand) -> Operand:
    return truncated(g, x)


@lowers("aten.pow.Tensor_Scalar")
def pow_scalar(g: Graph, x: Operand, exponent: float) -> Operand:
    named = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}.get(exponent)
    return elementwise(g, named, x) if named else elementwise(g, "power", x, exponent)


@lowers("aten.addcmul.default")
def addcmul(g: Graph, x: Operand, y: Operand, z: Operand, value: float = 1) -> Operand:
    product = elementwise(g, "multiply", y, z)
    if value == -1:
        return elementwise(g, "subtract", x, product)
    return elementwise(g, "add", x, scaled(g, product, value))


@lowers("aten.gelu.default")
def gelu(g: Graph, x: Operand, approximate: str = "none") -> Operand:
    return elementwise(g, "gelu_tanh" if approximate == "tanh" else "gelu", x)


@lowers("aten.leaky_relu.default")
def leaky_relu(g: Graph, x: Operand, negative_slope: float = 0.01) -> Operand:
    return elementwise(g, "leaky_relu", x, slope=float(negative_slope))


@lowers("aten.elu.default")
def elu(g: Graph, x: Operand, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Number:
    return scaled(g, elementwise(g, "elu", scaled(g, x, input_scale), alpha=float(alpha)), scale)


@lowers("aten.softplus.default")
def softplus(g: Graph, x: Operand, beta: float = 1, threshold: float = 20) -> Number:
    return scaled(g, elementwise(g, "softplus", scaled(g, x, beta)), 1 / beta)


@lowers("aten.clamp.default", "aten.clamp.Tensor", "aten.hardtanh.default")
def clamp(g: Graph, x: Operand, low: Number | None = None, high: Number | None = None) -> Operand:
    """NaN stays NaN."""
    if low is not None:
        x = elementwise(g, "maximum", x, low)
    return x if high is None else elementwise(g, "minimum", x, high)


@lowers("aten.clamp_min.default")
def clamp_min(g: Graph, x: Operand, low: float) -> Operand:
    return clamp(g, x, low)


@lowers("aten.clamp_max.default")
def clamp_max(g: Graph, x: Operand, high: float) -> Operand:
    return clamp(g, x, None, high)


@lowers("aten.relu6.default")
def relu6(g: Graph, x: Operand) -> Operand:
    return clamp(g, x, 0.0, 6.0)


@lowers("aten.lerp.Scalar", "aten.lerp.Tensor")
def lerp(g: Graph, x: Operand, y: Operand, weight: Number) -> Operand:
    difference = elementwise(g, "subtract", y, x)
    return elementwise(g, "add", x, elementwise(g, "multiply", difference, weight))


@lowers("aten.logical_xor.default")
def logical_xor(g: Graph, x: Operand, y: Operand) -> Operand:
    return elementwise(g, "not_equal", elementwise(g, "not_equal", x, 0.0), elementwise(g, "not_equal", y, 0.0))


@lowers("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(g: Graph, x: Operand, weight: Operand) -> Operand:
    if weight.ndim == 1:
        weight = g.reshape(weight, [weight.shape[0] if d == 1 else 1 for d in range(x.ndim)])
    below = elementwise(g, "multiply", x, weight)
    return elementwise(g, "where", elementwise(g, "less", x, 0.0), below, x)


@lowers("aten.expm1.default")
def expm1(g: Graph, x: Operand) -> Operand:
    """Exact to a rounding of 1; below 0 that of `elu`."""
    above = elementwise(g, "subtract", elementwise(g, "exp", x), 1.0)
    return elementwise(g, "where", elementwise(g, "less", x, 0.0), elementwise(g, "elu", x, alpha=1.0), above)


@lowers("aten.isnan.default")
def isnan(g: Graph, x: Operand) -> Operand:
    return elementwise(g, "not_equal", x, x)


@lowers("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def where(g: Graph, condition: Operand, x: Number, y: Number) -> Operand:
    return elementwise(g, "where", condition, x, y)


@lowers("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(g: Graph, x: Operand, mask: Operand, value: Number) -> Operand:
    return elementwise(g, "where", mask, value, x)

"""Norms over the last dims, over groups of channels, and by fixed statistics."""

from __future__ import annotations

from collections.abc import Sequence

from mambasdk.lowering.aten.broadcast import elementwise_of
from mambasdk.lowering.aten.convolutions import from_maps, last
from mambasdk.lowering.extents import product
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers


def last_dim_last(g: Graph, x: Operand) -> Operand:
    """X in a layout in which the graph's last dim lies last."""
    return x if x.order[-1] == x.ndim - 1 else Operand(g.plain(x), x.shape, dtype=x.dtype)


def over_last(
    g: Graph, op: str, x: Operand, extents: Sequence[object], weight: Operand | None, bias: Operand | None, eps: float
) -> Operand:
    """`op` over the last dims of x together, which are as many as `extents`."""
    x = g.floats(x)
    count = len(extents)
    flat = x if count == 1 else g.reshape(x, (*x.shape[: x.ndim - count], product(x.shape[x.ndim - count :])))
    flat = last_dim_last(g, flat)
    rows = [None if t is None else g.reshape(t, (flat.shape[-1],)) for t in (weight, bias)]
    value = g.op(op, x=flat.value, weight=rows[0], bias=rows[1], eps=float(eps))
    return g.reshape(Operand(value, flat.shape, flat.order), x.shape)


@lowers("aten.layer_norm.default")
def layer_norm(
    g: Graph,
    x: Operand,
    extents: Sequence[object],
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
    *_: object,
) -> Operand:
    return over_last(g, "layer_norm", x, extents, weight, bias, eps)


@lowers("aten.native_layer_norm.default")
def native_layer_norm(
    g: Graph,
    x: Operand,
    extents: Sequence[object],
    weight: Operand | None,
    bias: Operand | None,
    eps: float,
) -> list[Operand | None]:
    return [over_last(g, "layer_norm", x, extents, weight, bias, eps), None, None]


@lowers("aten.rms_norm.default")
def rms_norm(
    g: Graph, x: Operand, extents: Sequence[object], weight: Operand | None = None, eps: float | None = None
) -> Operand:
    return over_last(g, "rms_norm", x, extents, weight, None, 1.1920928955078125e-07 if eps is None else eps)


@lowers("aten.group_norm.default")
def group_norm(
    g: Graph,
    x: Operand,
    groups: int,
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
    *_: object,
) -> Operand:
    seen = g.floats(x).permuted(last(x.ndim))
    rows = g.reshape(seen, (x.shape[0], product(x.shape[2:]), x.shape[1]))
    value = g.op("group_norm", x=rows, weight=weight, bias=bias, groups=groups, eps=float(eps))
    stored = [x.shape[d] for d in last(x.ndim)]
    return from_maps(g, g.program.reshape(value, g.texts(stored)), x.shape)


@lowers("aten.instance_norm.default")
def instance_norm(
    g: Graph,
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    mean: Operand | None,
    variance: Operand | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *_: object,
) -> Operand:
    if not use_input_stats and mean is not None and variance is not None:
        return batch_norm(g, x, weight, bias, mean, variance, momentum, eps)[0]
    return group_norm(g, x, x.shape[1], weight, bias, eps)


@lowers("aten._native_batch_norm_legit_no_training.default")
def batch_norm(
    g: Graph,
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    mean: Operand,
    variance: Operand,
    momentum: float,
    eps: float,
) -> list[Operand]:
    """One that no convolution takes over: a scale and a shift of each channel."""
    channels = (x.shape[1],)
    scale = elementwise_of(g, channels, "rsqrt", elementwise_of(g, channels, "add", variance, float(eps)))
    if weight is not None:
        scale = elementwise_of(g, channels, "multiply", scale, weight)
    shift = elementwise_of(g, channels, "negate", elementwise_of(g, channels, "multiply", mean, scale))
    if bias is not None:
        shift = elementwise_of(g, channels, "add", shift, bias)
    ones = [1] * (x.ndim - 2)
    scaled = elementwise_of(g, x.shape, "multiply", x, g.reshape(scale, (*channels, *ones)))
    return [elementwise_of(g, x.shape, "add", scaled, g.reshape(shift, (*channels, *ones)))]

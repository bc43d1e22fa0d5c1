"""Convolutions over one, two and three dims, channel-last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mambasdk.errors import LoweringError
from mambasdk.lowering.extents import Extent, product
from mambasdk.lowering.fused import ACTIVATIONS
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers

AXES = ("d", "h", "w")


def last(ndim: int) -> list[int]:
    """The graph's dims (B, C, …) as (B, …, C)."""
    return [0, *range(2, ndim), 1]


def on_maps(g: Graph, x: Operand) -> Operand:
    """(B, C, …) with one to three dims behind as the operations on maps take it: (B, D, H, W, C)."""
    x = g.floats(x).permuted(last(x.ndim))
    return g.reshape(x, (x.shape[0], *[1] * (5 - x.ndim), *x.shape[1:]))


def from_maps(g: Graph, value: Any, shape: Sequence[Extent]) -> Operand:
    """What such an operation gave, as the graph sees it."""
    dims = last(len(shape))
    flat = g.program.reshape(value, g.texts([shape[d] for d in dims])) if len(shape) < 5 else value
    return Operand(flat, tuple(shape), tuple(dims.index(d) for d in range(len(shape))))


def spread(values: Sequence[int] | int, dims: int, empty: int) -> list[int]:
    """One number for each of the three axes: `empty` for those that are not there."""
    values = [values] if isinstance(values, int) else list(values)
    values = values * dims if len(values) == 1 else values
    return [empty] * (3 - dims) + values


def per_axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """{"stride_d": …, "stride_h": …, "stride_w": …}."""
    return {f"{name}_{axis}": value for axis, value in zip(AXES, values, strict=True)}


@lowers("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default", "fused.convolution")
def convolution(
    g: Graph,
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
    residual: Operand | None = None,
    activation: str = "none",
    slope: float = 0.0,
    residual_last: bool = False,
) -> Operand:
    dims = weight.ndim - 2
    before = spread(padding, dims, 0)
    arguments = {
        **per_axis("stride", spread(stride, dims, 1)),
        **per_axis("padding", before),
        **per_axis("padding_after", before),
        **per_axis("dilation", spread(dilation, dims, 1)),
        "residual": None if residual is None else on_maps(g, residual),
        "activation": list(ACTIVATIONS).index(activation),
        "slope": float(slope),
        "residual_last": residual_last,
    }
    maps = on_maps(g, x)
    kernel = [1] * (3 - dims) + list(weight.shape[2:])
    if groups == 1 and weight.is_fixed:
        rows = g.reshape(weight.permuted(last(weight.ndim)), (weight.shape[0], product(weight.shape[1:])))
        value = g.op(
            "convolution_packed",
            x=maps,
            weight=g.packed(rows),
            bias=bias,
            features=weight.shape[0],
            **per_axis("kernel", kernel),
            **arguments,
        )
    else:
        seen = weight.permuted(last(weight.ndim))
        seen = g.reshape(seen, (weight.shape[0], *kernel, weight.shape[1]))
        value = g.op("convolution", x=maps, weight=seen, bias=bias, groups=groups, **arguments)
    return from_maps(g, value, g.shape)


@lowers("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
def convolution_padded(
    g: Graph,
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sequence[int] = (1,),
    padding: str = "valid",
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Operand:
    if padding == "valid":
        return convolution(g, x, weight, bias, stride, (0,), dilation, groups)
    dims = weight.ndim - 2
    steps = spread(dilation, dims, 1)[3 - dims :]
    totals = [step * (size - 1) for step, size in zip(steps, weight.shape[2:], strict=True)]
    if any(total % 2 for total in totals):
        raise LoweringError('padding="same" of an even kernel pads one side more', way_out="pad before it")
    return convolution(g, x, weight, bias, stride, [total // 2 for total in totals], dilation, groups)


@lowers("aten.convolution.default")
def convolution_of_any_kind(
    g: Graph,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Operand:
    if transposed:
        return convolution_transposed(g, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return convolution(g, x, weight, bias, stride, padding, dilation, groups)


@lowers("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def convolution_transposed(
    g: Graph,
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Operand:
    dims = weight.ndim - 2
    places = {
        **per_axis("stride", spread(stride, dims, 1)),
        **per_axis("padding", spread(padding, dims, 0)),
        **per_axis("dilation", spread(dilation, dims, 1)),
        **per_axis("output_padding", spread(output_padding, dims, 0)),
    }
    kernel = [1] * (3 - dims) + list(weight.shape[2:])
    if groups == 1 and weight.is_fixed:
        seen = weight.permuted([1, *range(2, weight.ndim), 0])
        rows = g.reshape(seen, (weight.shape[1], product(weight.shape) // weight.shape[1]))
        value = g.op(
            "convolution_transposed_packed",
            x=on_maps(g, x),
            weight=g.packed(rows),
            bias=bias,
            features=weight.shape[1],
            **per_axis("kernel", kernel),
            **places,
        )
    else:
        seen = g.reshape(weight.permuted(last(weight.ndim)), (weight.shape[0], *kernel, weight.shape[1]))
        value = g.op("convolution_transposed", x=on_maps(g, x), weight=seen, bias=bias, groups=groups, **places)
    return from_maps(g, value, g.shape)

"""Pooling, resizing and sampling of maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mambasdk.lowering.aten.convolutions import from_maps, on_maps, per_axis, spread
from mambasdk.lowering.extents import Extent
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers

NEAREST, NEAREST_EXACT, LINEAR, CUBIC = 0, 1, 2, 3  # as `resize` numbers its modes


@lowers(
    "aten.max_pool1d.default", "aten.max_pool2d.default", "aten.max_pool3d.default",
    "aten.max_pool2d_with_indices.default", "aten.max_pool3d_with_indices.default",
)  # fmt: skip
def max_pool(
    g: Graph,
    x: Operand,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Any:
    value = g.node.meta["val"]
    pooled = value[0] if isinstance(value, (list, tuple)) else value
    shape = g.shape_of(pooled)
    windows = _windows_of(g, x, shape, kernel, stride, padding, dilation)
    made = g.op("max_pool", x=on_maps(g, x), **windows, **per_axis("dilation", spread(dilation, x.ndim - 2, 1)))
    result = from_maps(g, made, shape)
    return result if pooled is value else [result, None]


def _windows_of(
    g: Graph,
    x: Operand,
    shape: Sequence[Extent],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> dict[str, Any]:
    """Arguments of a pooling operation, with as much padding behind as the shape needs (ceil_mode)."""
    dims = x.ndim - 2
    size, before, apart = spread(kernel, dims, 1), spread(padding, dims, 0), spread(dilation, dims, 1)
    step = spread(stride if len(stride) else kernel, dims, 1)
    after = list(before)
    for i in range(dims):
        extent, made, axis = x.shape[2 + i], shape[2 + i], 3 - dims + i
        if isinstance(extent, int) and isinstance(made, int):
            needed = (made - 1) * step[axis] + apart[axis] * (size[axis] - 1) + 1
            after[axis] = max(before[axis], needed - extent - before[axis])
    return {
        **per_axis("kernel", size),
        **per_axis("stride", step),
        **per_axis("padding", before),
        **per_axis("padding_after", after),
    }


@lowers("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")
def average_pool(
    g: Graph,
    x: Operand,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Operand:
    windows = _windows_of(g, x, g.shape, kernel, stride, padding, (1,))
    made = g.op(
        "average_pool", x=on_maps(g, x), **windows, count_padding=count_include_pad, divisor=divisor_override or 0
    )
    return from_maps(g, made, g.shape)


def _adaptive(g: Graph, op: str, x: Operand, shape: Sequence[Extent]) -> Operand:
    sizes = [1] * (5 - x.ndim) + list(shape[2:])
    made = g.op(op, x=on_maps(g, x), **dict(zip(("depth", "height", "width"), sizes, strict=True)))
    return from_maps(g, made, shape)


@lowers(
    "aten.adaptive_avg_pool1d.default", "aten.adaptive_avg_pool2d.default", "aten.adaptive_avg_pool3d.default",
    "aten._adaptive_avg_pool2d.default", "aten._adaptive_avg_pool3d.default",
)  # fmt: skip
def adaptive_average_pool(g: Graph, x: Operand, _: object) -> Operand:
    return _adaptive(g, "adaptive_average_pool", x, g.shape)


@lowers("aten.adaptive_max_pool1d.default", "aten.adaptive_max_pool2d.default", "aten.adaptive_max_pool3d.default")
def adaptive_max_pool(g: Graph, x: Operand, _: object) -> list[Any]:
    return [_adaptive(g, "adaptive_max_pool", x, g.shape_of(g.node.meta["val"][0])), None]


@lowers("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")
def grid_sample(g: Graph, x: Operand, grid: Operand, mode: int, padding_mode: int, align_corners: bool) -> Operand:
    """Modes as torch numbers them; the grid says (x, y) or (x, y, z) of each place."""
    grid = g.floats(grid)
    places = g.reshape(grid, (grid.shape[0], *[1] * (5 - x.ndim), *grid.shape[1:]))
    made = g.op(
        "grid_sample",
        x=on_maps(g, x),
        grid=places,
        mode=mode,
        padding_mode=padding_mode,
        align_corners=align_corners,
    )
    return from_maps(g, made, g.shape)


def _resized(g: Graph, x: Operand, mode: int, align_corners: bool, scales: Sequence[float | None] | None) -> Operand:
    dims = x.ndim - 2
    sizes = [1] * (3 - dims) + list(g.shape[2:])
    factors = [0.0] * (3 - dims) + [float(scale or 0.0) for scale in (scales or [None] * dims)]
    made = g.op(
        "resize",
        x=on_maps(g, x),
        **dict(zip(("depth", "height", "width"), sizes, strict=True)),
        mode=mode,
        align_corners=align_corners,
        **per_axis("scale", factors),
    )
    return from_maps(g, made, g.shape)


@lowers("aten.upsample_nearest1d.vec", "aten.upsample_nearest2d.vec", "aten.upsample_nearest3d.vec")
def upsample_nearest(g: Graph, x: Operand, _: object, scales: Sequence[float] | None = None) -> Operand:
    return _resized(g, x, NEAREST, False, scales)


@lowers(
    "aten._upsample_nearest_exact1d.vec", "aten._upsample_nearest_exact2d.vec", "aten._upsample_nearest_exact3d.vec"
)
def upsample_nearest_exact(g: Graph, x: Operand, _: object, scales: Sequence[float] | None = None) -> Operand:
    return _resized(g, x, NEAREST_EXACT, False, scales)


@lowers("aten.upsample_linear1d.vec", "aten.upsample_bilinear2d.vec", "aten.upsample_trilinear3d.vec")
def upsample_linear(
    g: Graph, x: Operand, _: object, align_corners: bool, scales: Sequence[float] | None = None
) -> Operand:
    return _resized(g, x, LINEAR, align_corners, scales)


@lowers("aten.upsample_bicubic2d.vec")
def upsample_cubic(
    g: Graph, x: Operand, _: object, align_corners: bool, scales: Sequence[float] | None = None
) -> Operand:
    return _resized(g, x, CUBIC, align_corners, scales)

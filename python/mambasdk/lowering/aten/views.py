"""Shapes and layouts: what moves no numbers, and what joins, cuts and repeats."""

from __future__ import annotations

from collections.abc import Sequence

from mambasdk.errors import LoweringError
from mambasdk.lowering.extents import Extent, is_same, product
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers

_FARTHEST = 2**62  # torch's slices end at 2^63 - 1 where no end is given
_WIDTH = 8  # how many tensors `concat` takes


@lowers(
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
    "aten.unflatten.int", "aten.view_copy.default",
)  # fmt: skip
def view(g: Graph, x: Operand, *_: object) -> Operand:
    return g.reshape(x, g.shape)


@lowers("aten.unsqueeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default")
def unsqueeze(g: Graph, x: Operand, *_: object) -> Operand:
    return g.reshape(x, g.shape)


@lowers(
    "aten.alias.default", "aten.clone.default", "aten.contiguous.default", "aten.detach.default",
    "aten.lift_fresh_copy.default", "aten.detach_.default",
)  # fmt: skip
def same(g: Graph, x: Operand, *_: object, **__: object) -> Operand:
    return x


@lowers("aten.dropout.default")
def dropout(g: Graph, x: Operand, share: float, trains: bool) -> Operand:
    if trains and share:
        raise LoweringError(f"it drops {share:g} of its input at random", way_out="model.eval(), or training=False")
    return x


@lowers("aten.permute.default")
def permute(g: Graph, x: Operand, dims: Sequence[int]) -> Operand:
    return x.permuted(dims)


@lowers("aten.transpose.int")
def transpose(g: Graph, x: Operand, a: int, b: int) -> Operand:
    dims = list(range(x.ndim))
    dims[a], dims[b] = dims[b], dims[a]
    return x.permuted(dims)


@lowers("aten.t.default", "aten.numpy_T.default")
def t(g: Graph, x: Operand) -> Operand:
    return x.permuted(range(x.ndim - 1, -1, -1))


@lowers("aten.movedim.int")
def movedim(g: Graph, x: Operand, source: int, destination: int) -> Operand:
    dims = [d for d in range(x.ndim) if d != x.dim(source)]
    dims.insert(x.dim(destination), x.dim(source))
    return x.permuted(dims)


@lowers("aten.expand.default")
def expand(g: Graph, x: Operand, *_: object, **__: object) -> Operand:
    return g.expand(x, g.shape)


@lowers("aten.expand_as.default")
def expand_as(g: Graph, x: Operand, _: Operand) -> Operand:
    return g.expand(x, g.shape)


@lowers("aten.select.int")
def select(g: Graph, x: Operand, dim: int, index: Extent) -> Operand:
    return g.reshape(g.slice(x, dim, index, 1), g.shape)


@lowers("aten.slice.Tensor")
def slice_(
    g: Graph, x: Operand, dim: int = 0, start: Extent | None = None, end: Extent | None = None, step: int = 1
) -> Operand:
    extent = x.shape[x.dim(dim)]
    first = 0 if start is None else start
    if isinstance(first, int) and isinstance(extent, int):
        first = max(0, min(extent, first + extent if first < 0 else first))
    elif isinstance(first, int) and first < 0:
        first = extent + first
    return g.slice(x, dim, first, g.shape[x.dim(dim)], step)


@lowers("aten.narrow.default")
def narrow(g: Graph, x: Operand, dim: int, start: Extent, length: Extent) -> Operand:
    return g.slice(x, dim, start, length)


@lowers(
    "aten.split.Tensor", "aten.split_with_sizes.default", "aten.split.sizes", "aten.chunk.default",
    "aten.tensor_split.sections", "aten.split_copy.Tensor", "aten.split_with_sizes_copy.default",
)  # fmt: skip
def split(g: Graph, x: Operand, _: object, dim: int = 0) -> list[Operand]:
    parts = []
    start: Extent = 0
    for part in g.node.meta["val"]:
        length = g.shape_of(part)[x.dim(dim)]
        parts.append(g.slice(x, dim, start, length))
        start = start + length
    return parts


@lowers("aten.unbind.int")
def unbind(g: Graph, x: Operand, dim: int = 0) -> list[Operand]:
    parts = g.node.meta["val"]
    return [g.reshape(g.slice(x, dim, i, 1), g.shape_of(part)) for i, part in enumerate(parts)]


@lowers("aten.cat.default", "aten.concat.default")
def cat(g: Graph, tensors: Sequence[Operand], dim: int = 0) -> Operand:
    parts = [x for x in tensors if not (x.ndim == 1 and is_same(x.shape[0], 0) and len(g.shape) > 1)]
    return joined(g, parts, dim % len(g.shape))


@lowers("aten.stack.default")
def stack(g: Graph, tensors: Sequence[Operand], dim: int = 0) -> Operand:
    dim %= len(g.shape)
    return joined(g, [g.reshape(x, (*x.shape[:dim], 1, *x.shape[dim:])) for x in tensors], dim)


def joined(g: Graph, parts: Sequence[Operand], dim: int) -> Operand:
    """The parts one after the other along a dim of the graph."""
    while len(parts) > 1:
        parts = [_join(g, parts[i : i + _WIDTH], dim) for i in range(0, len(parts), _WIDTH)]
    return parts[0]


def _join(g: Graph, parts: Sequence[Operand], dim: int) -> Operand:
    if len(parts) == 1:
        return parts[0]
    order = max((x.order for x in parts), key=lambda order: order != tuple(range(len(order))))
    inverse = [order.index(p) for p in range(len(order))]
    floats = [g.floats(x) for x in parts]
    lead, tail = inverse[: order[dim]], inverse[order[dim] + 1 :]
    values = {}
    for i, x in enumerate(floats):
        # In the common order as (leading dims, what is joined, the rest as one).
        seen = x.permuted(inverse)
        flat = g.reshape(seen, [*seen.shape[: len(lead) + 1], product(x.shape[d] for d in tail)])
        values[f"x{i}"] = g.plain(flat)
    total: Extent = sum((x.shape[dim] for x in floats[1:]), floats[0].shape[dim])
    whole = [*floats[0].shape]
    whole[dim] = total
    value = g.program.reshape(g.op("concat", **values), g.texts([whole[d] for d in inverse]))
    return Operand(value, tuple(whole), order)


@lowers("aten.flip.default")
def flip(g: Graph, x: Operand, dims: Sequence[int]) -> Operand:
    for dim in dims:
        place = x.order[x.dim(dim)]
        stored = Operand(x.value, x.stored_shape, breaks=x.breaks, dtype=x.dtype)
        rows = g.reshape(stored, (*stored.shape[: place + 1], product(stored.shape[place + 1 :])))
        value = g.program.reshape(g.op("flip", x=g.floats(rows)), g.texts(stored.shape))
        x = Operand(value, x.shape, x.order)
    return x


@lowers("aten.repeat.default")
def repeat(g: Graph, x: Operand, repeats: Sequence[Extent]) -> Operand:
    x = g.reshape(x, [1] * (len(repeats) - x.ndim) + list(x.shape))
    apart = g.reshape(x, [extent for pair in ((1, size) for size in x.shape) for extent in pair])
    whole = [extent for pair in zip(repeats, x.shape, strict=True) for extent in pair]
    return g.reshape(g.copied(g.expand(apart, whole)), g.shape)


@lowers("aten.roll.default")
def roll(g: Graph, x: Operand, shifts: Sequence[Extent], dims: Sequence[int] = ()) -> Operand:
    if not dims:
        raise LoweringError("roll over all elements at once")
    for shift, dim in zip(shifts, dims, strict=True):
        d = x.dim(dim)
        size = x.shape[d]
        cut = shift % size
        x = joined(g, [g.slice(x, d, size - cut, cut), g.slice(x, d, 0, size - cut)], d)
    return x


@lowers("aten.repeat_interleave.self_int")
def repeat_interleave(g: Graph, x: Operand, repeats: Extent, dim: int | None = None, **_: object) -> Operand:
    if dim is None:
        x, dim = g.reshape(x, (product(x.shape),)), 0
    d = x.dim(dim)
    apart = g.reshape(x, (*x.shape[: d + 1], 1, *x.shape[d + 1 :]))
    whole = g.expand(apart, (*x.shape[: d + 1], repeats, *x.shape[d + 1 :]))
    return g.reshape(g.copied(whole), g.shape)


@lowers("aten.slice_scatter.default")
def slice_scatter(
    g: Graph,
    x: Operand,
    source: Operand,
    dim: int = 0,
    start: Extent | None = None,
    end: Extent | None = None,
    step: int = 1,
) -> Operand:
    """The tensor with a slice of it replaced: what stands before, the source, what stands behind."""
    if step != 1:
        raise LoweringError("an assignment to every nth entry")
    d = x.dim(dim)
    extent, length = x.shape[d], source.shape[d]
    first = 0 if start is None else start
    if isinstance(first, int) and first < 0:
        first = extent + first
    parts = [g.slice(x, d, 0, first), source, g.slice(x, d, first + length, extent - first - length)]
    return joined(g, [part for part in parts if not is_same(part.shape[d], 0)], d)


@lowers("aten.select_scatter.default")
def select_scatter(g: Graph, x: Operand, source: Operand, dim: int, index: Extent) -> Operand:
    d = x.dim(dim)
    return slice_scatter(g, x, g.reshape(source, (*x.shape[:d], 1, *x.shape[d + 1 :])), d, index)


_MODES = {"constant": 0, "reflect": 1, "replicate": 2, "circular": 3}


def padded(g: Graph, x: Operand, pairs: Sequence[Extent], mode: str, value: float = 0.0) -> Operand:
    """The last dims first, as torch names them."""
    for i in range(0, len(pairs), 2):
        before, after = pairs[i], pairs[i + 1]
        dim = x.ndim - 1 - i // 2
        if is_same(before, 0) and is_same(after, 0):
            continue
        place = x.order[dim]
        stored = Operand(x.value, x.stored_shape, breaks=x.breaks, dtype=x.dtype)
        rows = g.reshape(stored, (*stored.shape[: place + 1], product(stored.shape[place + 1 :])))
        made = g.op("pad", x=g.floats(rows), before=before, after=after, mode=_MODES[mode], value=float(value))
        shape = (*x.shape[:dim], x.shape[dim] + before + after, *x.shape[dim + 1 :])
        stored_shape = [shape[d] for d in x.inverse]
        x = Operand(g.program.reshape(made, g.texts(stored_shape)), shape, x.order)
    return x


@lowers("aten.constant_pad_nd.default")
def constant_pad(g: Graph, x: Operand, pairs: Sequence[Extent], value: float = 0.0) -> Operand:
    return padded(g, x, pairs, "constant", value)


@lowers("aten.pad.default")
def pad(g: Graph, x: Operand, pairs: Sequence[Extent], mode: str = "constant", value: float | None = None) -> Operand:
    return padded(g, x, pairs, mode, value or 0.0)


@lowers("aten.reflection_pad1d.default", "aten.reflection_pad2d.default", "aten.reflection_pad3d.default")
def reflection_pad(g: Graph, x: Operand, pairs: Sequence[Extent]) -> Operand:
    return padded(g, x, pairs, "reflect")


@lowers("aten.replication_pad1d.default", "aten.replication_pad2d.default", "aten.replication_pad3d.default")
def replication_pad(g: Graph, x: Operand, pairs: Sequence[Extent]) -> Operand:
    return padded(g, x, pairs, "replicate")

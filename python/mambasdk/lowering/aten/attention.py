"""Attention and recurrent units."""

from __future__ import annotations

import math

from mambasdk.errors import LoweringError
from mambasdk.lowering.aten.broadcast import elementwise_of
from mambasdk.lowering.extents import is_same
from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers


@lowers("aten.scaled_dot_product_attention.default")
def attention(
    g: Graph,
    q: Operand,
    k: Operand,
    v: Operand,
    mask: Operand | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Operand:
    """The operation takes (B, L, H, E); the graph says (B, H, L, E)."""
    if dropout:
        raise LoweringError(f"attention that drops {dropout:g} of its weights at random", way_out="pass dropout_p=0")
    if causal and not is_same(q.shape[-2], k.shape[-2]):
        raise LoweringError(
            "causal attention of fewer queries than keys, which torch aligns at the beginning", way_out="pass a mask"
        )
    shape = g.shape
    width = q.shape[-1]
    if scale is None:
        scale = 1 / math.sqrt(width)
    q, k, v = (_four(g, x) for x in (q, k, v))
    if mask is not None:
        given = g.node.args[3] if len(g.node.args) > 3 else g.node.kwargs["attn_mask"]
        if str(given.meta["val"].dtype) == "torch.bool":
            mask = elementwise_of(g, mask.shape, "where", mask, 0.0, float("-inf"))
        mask = g.expand(g.floats(mask), (q.shape[0], q.shape[1], q.shape[2], k.shape[2]))
    value = g.op(
        "attention",
        q=q.permuted((0, 2, 1, 3)),
        k=k.permuted((0, 2, 1, 3)),
        v=v.permuted((0, 2, 1, 3)),
        mask=mask,
        scale=float(scale),
        causal=causal,
    )
    made = Operand(value, (q.shape[0], q.shape[1], q.shape[2], v.shape[3]), (0, 2, 1, 3))
    return g.reshape(made, shape)


def _four(g: Graph, x: Operand) -> Operand:
    """Leading dims taken as one batch, or a head of one."""
    x = g.floats(x)
    if x.ndim == 4:
        return x
    if x.ndim == 3:
        return g.reshape(x, (x.shape[0], 1, *x.shape[1:]))
    raise LoweringError(f"attention over {x.ndim} dims", way_out="join the leading ones")

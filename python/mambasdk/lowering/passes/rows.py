"""A row of a dense layer's result is computed from that row alone: the last token's logits without all others'."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from mambasdk.lowering.passes.graphs import Node, is_call, only_user, replace_node

_aten = torch.ops.aten


def select_first(graph: fx.Graph) -> None:
    """select(linear(x)) becomes linear(select(x)), along any dim but the last."""
    nodes: list[Node] = list(graph.nodes)
    for node in nodes:
        if not is_call(node, _aten.select.int) or not is_call(node.args[0], _aten.linear.default):
            continue
        product = node.args[0]
        x = product.args[0].meta["val"]
        dim = node.args[1] + x.ndim if node.args[1] < 0 else node.args[1]
        if dim == x.ndim - 1:
            continue
        with graph.inserting_before(node):
            row = graph.call_function(_aten.select.int, (product.args[0], dim, node.args[2]))
            row.meta["val"] = x.select(dim, 0)
            made = graph.call_function(_aten.linear.default, (row, *product.args[1:]))
        replace_node(node, made)


def narrow_features(graph: fx.Graph) -> None:
    """A slice of the features that a dense layer gives becomes the layer of those rows of its weight."""
    nodes: list[Node] = list(graph.nodes)
    for node in nodes:
        if not is_call(node, _aten.slice.Tensor) or not is_call(node.args[0], _aten.linear.default):
            continue
        product, dim, *bounds = list[Any](node.args)
        extents = node.meta["val"].ndim
        if only_user(product) is not node or dim not in (-1, extents - 1):
            continue
        rows = []
        with graph.inserting_before(node):
            for weight in product.args[1:]:
                if weight is not None:
                    rows.append(graph.call_function(_aten.slice.Tensor, (weight, 0, *bounds)))
                    rows[-1].meta["val"] = _aten.slice.Tensor(weight.meta["val"], 0, *bounds)
            made = graph.call_function(_aten.linear.default, (product.args[0], *rows))
        replace_node(node, made)

"""Batch norm with fixed statistics becomes part of the convolution or dense layer before it."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from mambasdk.lowering.passes.graphs import Node, is_call, only_user

_aten = torch.ops.aten
_PRODUCTS = (_aten.conv1d.default, _aten.conv2d.default, _aten.conv3d.default, _aten.linear.default)
_NORM = _aten._native_batch_norm_legit_no_training.default


def fold_batch_norm(graph: fx.Graph) -> None:
    """Y = (x W + b - mean) s + shift with s = weight / sqrt(variance + eps) is x (W s) + (b - mean) s + shift."""
    for norm in list(graph.nodes):
        if not is_call(norm, _NORM):
            continue
        product = norm.args[0]
        if not is_call(product, *_PRODUCTS) or only_user(product) is None or not _is_weight(product.args[1]):
            continue
        if product.target is _aten.linear.default and product.meta["val"].ndim != 2:
            continue  # the norm's channels are the second dim, which is not the layer's
        _fold(graph, product, norm)


def _is_weight(node: object) -> bool:
    return isinstance(node, fx.Node) and node.op in ("placeholder", "get_attr")


def _fold(graph: fx.Graph, product: Node, norm: Node) -> None:
    weight = product.args[1]
    bias = product.args[2] if len(product.args) > 2 else None
    _, gain, shift, mean, variance, _, eps = norm.args
    channels = [weight.meta["val"].shape[0]] + [1] * (weight.meta["val"].ndim - 1)
    with graph.inserting_before(product):

        def call(target: Any, *args: Any) -> Node:
            node = graph.call_function(target, args)
            values = [a.meta["val"] if isinstance(a, fx.Node) else a for a in args]
            node.meta["val"] = target(*values)
            return node

        scale = call(_aten.rsqrt.default, call(_aten.add.Tensor, variance, eps))
        if gain is not None:
            scale = call(_aten.mul.Tensor, scale, gain)
        wide = call(_aten.mul.Tensor, weight, call(_aten.view.default, scale, channels))
        centre = mean if bias is None else call(_aten.sub.Tensor, mean, bias)
        moved = call(_aten.neg.default, call(_aten.mul.Tensor, centre, scale))
        if shift is not None:
            moved = call(_aten.add.Tensor, moved, shift)
    product.args = (product.args[0], wide, moved, *product.args[3:])
    for user in list(norm.users):
        if is_call(user, operator.getitem) and user.args[1] == 0:
            user.replace_all_uses_with(product)
        if not user.users:
            graph.erase_node(user)
    if not norm.users:
        graph.erase_node(norm)

"""Activations and residuals become the ending of the product that makes their input."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from mambasdk.lowering import fused
from mambasdk.lowering.passes.graphs import Node, is_call, only_user, replace_node

_aten = torch.ops.aten
_LINEAR = (_aten.linear.default, fused.linear)
_CONVOLUTIONS = (_aten.conv1d.default, _aten.conv2d.default, _aten.conv3d.default, fused.convolution)
_NAMES = {
    _aten.relu.default: "relu",
    _aten.silu.default: "silu",
    _aten.sigmoid.default: "sigmoid",
    _aten.tanh.default: "tanh",
    _aten.hardswish.default: "hardswish",
}


def _activation(node: Node) -> dict[str, Any] | None:
    """The ending that an elementwise function is, None where it is none."""
    if is_call(node, _aten.gelu.default):
        form = node.kwargs.get("approximate", node.args[1] if len(node.args) > 1 else "none")
        return {"activation": "gelu_tanh" if form == "tanh" else "gelu"}
    if is_call(node, _aten.leaky_relu.default):
        return {"activation": "leaky_relu", "slope": node.args[1] if len(node.args) > 1 else 0.01}
    return {"activation": _NAMES[node.target]} if node.op == "call_function" and node.target in _NAMES else None


def _products(graph: fx.Graph, dense_layers: bool) -> list[Node]:
    targets = (*_CONVOLUTIONS, *_LINEAR) if dense_layers else _CONVOLUTIONS
    return [node for node in graph.nodes if is_call(node, *targets)]


_VIEWS = (
    _aten.permute.default,
    _aten.transpose.int,
    _aten.view.default,
    _aten._unsafe_view.default,
    _aten.reshape.default,
    _aten.unsqueeze.default,
    _aten.squeeze.dim,
    _aten.flatten.using_ints,
    _aten.unflatten.int,
)


def advance_activations(graph: fx.Graph) -> None:
    """activation(view(x)) becomes view(activation(x)), so that the activation meets the product that made x."""
    nodes: list[Node] = list(graph.nodes)
    for node in nodes:
        if node.op != "call_function" or _activation(node) is None:
            continue
        seen = node.args[0]
        first = None
        while is_call(seen, *_VIEWS) and only_user(seen) is not None:
            first, seen = seen, seen.args[0]
        if first is None or not is_call(seen, *_CONVOLUTIONS, *_LINEAR) or only_user(seen) is None:
            continue
        with graph.inserting_after(seen):
            early = graph.call_function(node.target, (seen, *node.args[1:]), node.kwargs)
        early.meta.update({key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta})
        early.meta["val"] = seen.meta["val"]
        first.replace_input_with(seen, early)
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)


def fuse_activations(graph: fx.Graph, *, dense_layers: bool = True) -> None:
    """activation(product) as one node, where nothing else reads the product."""
    for product in _products(graph, dense_layers):
        if product.kwargs.get("activation", "none") != "none":
            continue
        user = only_user(product)
        if user is None or user.args[0] is not product or (ending := _activation(user)) is None:
            continue
        _end(graph, product, user, {**product.kwargs, **ending})


def fuse_residuals(graph: fx.Graph, *, dense_layers: bool = True) -> None:
    """Product + residual as one node, and an activation of that sum too. The product's shape is the sum's."""
    for product in _products(graph, dense_layers):
        if "residual" in product.kwargs:
            continue
        user = only_user(product)
        if user is None or not is_call(user, _aten.add.Tensor) or user.kwargs or len(user.args) != 2:
            continue
        other = user.args[1] if user.args[0] is product else user.args[0]
        if not isinstance(other, fx.Node) or other is product or not _same(other, product):
            continue
        last = product.kwargs.get("activation", "none") != "none"
        made = _end(graph, product, user, {**product.kwargs, "residual": other, "residual_last": last})
        after = only_user(made)
        if not last and after is not None and (ending := _activation(after)) is not None and after.args[0] is made:
            _end(graph, made, after, {**made.kwargs, **ending})


def _same(a: Node, b: Node) -> bool:
    x, y = a.meta.get("val"), b.meta.get("val")
    return isinstance(x, torch.Tensor) and x.shape == y.shape and x.dtype == y.dtype


def _end(graph: fx.Graph, product: Node, user: Node, kwargs: dict[str, Any]) -> Node:
    """The product with an ending, in the place of `user`, which it stands for."""
    target = fused.linear if product.target in _LINEAR else fused.convolution
    with graph.inserting_before(user):
        made = graph.call_function(target, product.args, kwargs)
    replace_node(user, made)
    graph.erase_node(product)
    return made

"""Removes what changes no value: assertions, which the native engine makes itself, copies, and slices of everything."""

from __future__ import annotations

import torch
from torch import fx

from mambasdk.lowering.passes.graphs import Node, is_call

_aten = torch.ops.aten
_CHECKS = ("_assert", "sym_constrain", "_check")
_COPIES = (_aten.alias.default, _aten.clone.default, _aten.detach.default, _aten.contiguous.default)
_FARTHEST = 2**62  # torch's slices without an end go to 2^63 - 1


def drop_checks(graph: fx.Graph) -> None:
    """Erase nodes that have no result and only assert something."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and not node.users and any(mark in str(node.target) for mark in _CHECKS):
            graph.erase_node(node)


def drop_copies(graph: fx.Graph) -> None:
    """Let what reads a copy, or a slice of everything, read its source."""
    for node in list(graph.nodes):
        if is_call(node, *_COPIES) or (is_call(node, _aten.slice.Tensor) and _is_whole(node)):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _is_whole(node: Node) -> bool:
    start = node.args[2] if len(node.args) > 2 else None
    end = node.args[3] if len(node.args) > 3 else None
    step = node.args[4] if len(node.args) > 4 else 1
    return start in (0, None) and step == 1 and (end is None or (isinstance(end, int) and end >= _FARTHEST))

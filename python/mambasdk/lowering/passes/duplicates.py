"""What is computed twice of the same is computed once, such as an order of scanning that every layer builds anew."""

from __future__ import annotations

from typing import Any

from torch import fx

from mambasdk.lowering.passes.graphs import Node, is_random


def merge_duplicates(graph: fx.Graph) -> None:
    """Let what reads a node read an earlier one that calls the same operation with the same arguments."""
    seen: dict[Any, Node] = {}
    nodes: list[Node] = list(graph.nodes)
    for node in nodes:
        if node.op != "call_function" or is_random(node.target):
            continue
        key = (node.target, _key(node.args), _key(node.kwargs))
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _key(argument: Any) -> Any:
    """Equal for equal arguments alone: 1, 1.0 and True are three, and so are 0.0 and -0.0."""
    if isinstance(argument, dict):
        return tuple((name, _key(value)) for name, value in sorted(argument.items()))
    if isinstance(argument, (list, tuple)):
        return tuple(map(_key, argument))
    return argument if isinstance(argument, fx.Node) else (type(argument), repr(argument))

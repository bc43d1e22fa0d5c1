"""What passes share: asking and copying nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

Node = Any  # an fx.Node: the types of its arguments are everything there is


def is_call(node: object, *targets: object) -> bool:
    """Whether a node calls one of these operations."""
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets


def is_random(target: object) -> bool:
    """Whether an operation draws numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())


def replace_node(old: Node, new: Node) -> None:
    """`new` stands for `old`: same value, same place in the model."""
    new.meta.update({key: old.meta[key] for key in ("val", "nn_module_stack", "stack_trace") if key in old.meta})
    old.replace_all_uses_with(new)
    old.graph.erase_node(old)


def only_user(node: Node) -> Node | None:
    """The one node that reads this, None where there are others."""
    users = list(node.users)
    return users[0] if len(users) == 1 else None

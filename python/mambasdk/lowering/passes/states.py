"""States that no output depends on, such as counts that only Python asks for, are left out."""

from __future__ import annotations

import torch
from torch import fx

from mambasdk.lowering.passes.graphs import Node


def drop_idle_states(graph: fx.Graph, inputs: int, outputs: int, states: int) -> list[bool]:
    """Keep the states that an output, or a state that is kept, is computed from; returns which those are.

    The graph's last arguments are the inputs, then the states; its results the outputs, then the states.
    """
    given = [node for node in graph.nodes if node.op == "placeholder"][-(inputs + states) :]
    arguments = given[inputs:]
    _read_sizes_of_inputs(given[:inputs], arguments)
    [output] = [node for node in graph.nodes if node.op == "output"]
    results = list(output.args[0])
    live = [False] * states
    wanted = results[:outputs]
    while True:
        reached = _ancestors(wanted)
        found = [argument in reached for argument in arguments]
        if found == live:
            break
        live = found
        wanted = results[:outputs] + [r for r, is_live in zip(results[outputs:], live, strict=True) if is_live]
    output.args = (tuple(wanted),)
    graph.eliminate_dead_code()
    for argument, is_live in zip(arguments, live, strict=True):
        if not is_live:
            graph.erase_node(argument)
    return live


def _read_sizes_of_inputs(inputs: list[Node], states: list[Node]) -> None:
    """Where the graph asks a state for its batch, ask an input: torch takes any argument that has the size."""
    where = {
        str(size): (argument, dim)
        for argument in inputs
        for dim, size in enumerate(argument.meta["val"].shape)
        if isinstance(size, torch.SymInt)
    }
    for state in states:
        for user in list(state.users):
            if user.target is torch.ops.aten.sym_size.int and str(user.meta["val"]) in where:
                user.args = where[str(user.meta["val"])]


def _ancestors(nodes: list[Node]) -> set[Node]:
    reached: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in reached:
            reached.add(node)
            stack.extend(node.all_input_nodes)
    return reached

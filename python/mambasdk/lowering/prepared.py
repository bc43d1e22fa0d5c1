"""What a program computes from its weights at load, computed at export instead, so that loading only maps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mambasdk.errors import LoweringError, require_core, require_torch
from mambasdk.lowering.program import Program

if TYPE_CHECKING:
    from torch import Tensor


def prepare_at_export(program: Program, tensors: Mapping[str, Tensor]) -> None:
    """Run the program's `prepare` part and keep what its nodes read as constants.

    tensors: the weights as they are stored, on the CPU. The kernels are those of this machine, on the arrays that
    loading would give them. Raises LoweringError for a weight that `tensors` lacks.
    """
    torch = require_torch("preparing weights")
    core = require_core("preparing weights")
    known: dict[str, Any] = {f"@{name}": value for name, value in {**tensors, **program.constants}.items()}

    def value(reference: str) -> Any:
        if reference not in known:
            raise LoweringError(f"{reference} is no weight of the model", where="prepare")
        return known[reference]

    nodes, read = program.take_prepared()
    for node in nodes:
        if "view" in node:
            known[node["out"]] = _view(node, value(node["in"]))
            continue
        arguments = {
            name: value(argument).detach() if isinstance(argument, str) else argument
            for name, argument in node["args"].items()
        }
        made = core.call(node["op"], **arguments)
        for name, reference in node["out"].items():
            known[reference] = torch.from_dlpack(made[name])
    for node in nodes:
        for reference in [node["out"]] if "view" in node else node["out"].values():
            if reference in read:
                program.constants[reference[1:]] = known[reference].contiguous().clone()


def _view(node: Mapping[str, Any], x: Tensor) -> Tensor:
    if node["view"] == "slice":
        dim, start = node["dim"] % x.ndim, node["start"] % max(x.shape[node["dim"]], 1)
        step = node.get("step", 1)
        found: Tensor = x.narrow(dim, start, (node["length"] - 1) * step + 1 if node["length"] else 0)
        return found[(slice(None),) * dim + (slice(None, None, step),)]
    if node["view"] == "permute":
        return x.permute(node["dims"])
    return x.reshape(node["shape"]) if node["view"] == "reshape" else x.expand(node["shape"])

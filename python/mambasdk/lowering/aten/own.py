"""The SDK's own operations, and those of plugins that are registered the same way: they pass as they are."""

from __future__ import annotations

import math
import sys
from typing import Any

from mambasdk.lowering.graph import Graph
from mambasdk.lowering.operand import Operand
from mambasdk.lowering.table import lowers


@lowers("mambasdk.*")
def own(g: Graph, *arguments: Any, **named: Any) -> Any:
    """The arguments by the names of torch's schema, which are those of the declaration."""
    schema = g.node.target._schema
    name = schema.name.split("::")[1]
    defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    given = dict(zip((a.name for a in schema.arguments), arguments, strict=False)) | named
    signature = g.signature(name)
    values = {}
    for key, value in given.items():
        if value is None or _is_default(value, defaults.get(key)):
            continue  # the declaration says it; and a default may be infinite, which JSON has not
        if isinstance(value, Operand) and key in signature.types:
            values[key] = g.indices(value) if signature.types[key] == "i32" else value
        else:
            values[key] = value
    said = {**defaults, **given}
    wanted = [out for out, condition in signature.outputs.items() if condition is None or said.get(condition)]
    made = iter(g.ops(name, wanted, **values))
    metas = g.node.meta["val"]
    metas = list(metas) if isinstance(metas, (list, tuple)) else [metas]
    results = []
    for out, meta in zip(signature.outputs, metas, strict=True):
        results.append(g.operand(next(made), g.shape_of(meta)) if out in wanted else None)
    return results if isinstance(g.node.meta["val"], (list, tuple)) else results[0]


def _is_default(value: Any, default: Any) -> bool:
    """Whether a graph's argument is the schema's default. Schemas write the largest number for infinity; graphs have
    either, where an argument behind it is given.
    """
    if isinstance(value, Operand):
        return False
    if isinstance(value, float) and math.isinf(value):
        value = math.copysign(sys.float_info.max, value)
    return bool(default == value)

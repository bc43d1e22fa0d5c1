"""Sample calls of every registered operation, made from its signature.

A case fixes the dims, which optional arguments are given and the scalars; values are drawn for a choice of dtypes. What
a signature cannot say (positive steps, valid orders and offsets, dims that divide each other) stands in tables:
`families` by operation, `draws` by the name of an argument. An operation that needs nothing of the kind gets its cases
without an entry.
"""

from .arguments import Types, backward_case, double_types, floor, known_dims, type_choices, values, widened
from .case import Case, Family
from .families import FAMILIES
from .of_signature import cases, differentiable_ops, forward_ops, gradient_cases, signature

__all__ = [
    "FAMILIES",
    "Case",
    "Family",
    "Types",
    "backward_case",
    "cases",
    "differentiable_ops",
    "double_types",
    "floor",
    "forward_ops",
    "gradient_cases",
    "known_dims",
    "signature",
    "type_choices",
    "values",
    "widened",
]

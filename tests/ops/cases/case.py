"""One way to call an operation, and what its signature does not say of how it may be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Dims = dict[str, int]


@dataclass(frozen=True)
class Case:
    """One way to call an operation."""

    op: str
    id: str
    dims: Mapping[str, int]
    given: frozenset[str]  # optional tensors
    scalars: Mapping[str, Any]
    lead: tuple[int, ...] = (2, 3)

    @property
    def is_empty(self) -> bool:
        return 0 in self.dims.values() or 0 in self.lead

    def __str__(self) -> str:
        return f"{self.op}[{self.id}]"


Draw = Callable[[tuple[int, ...], Case, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Family:
    """What the signature of an operation does not say."""

    dims: Mapping[str, Dims] = field(default_factory=dict)  # profile -> dims
    fix: Callable[[Dims, frozenset[str], Mapping[str, Any]], Dims] | None = None
    scalars: tuple[Mapping[str, Any], ...] = ()  # further choices of scalars, tried with everything given
    structural: tuple[str, ...] = ()  # more of STRUCTURAL, for this family
    excluded: Callable[[frozenset[str], Mapping[str, Any]], bool] | None = None
    nonempty: tuple[str, ...] = ()  # dims of which an extent of 0 is an error
    values: Mapping[str, Draw] = field(default_factory=dict)  # argument -> how it is drawn, before VALUES
    # Roundings to a low-precision T in series; 1 is the result's own. More where a contract stores intermediates in T.
    roundings: int = 1
    product_roundings: int = 0  # more of them where operands of matrix products are rounded to bfloat16

"""What is measured: one case is an operation on one shape, ours and a peer's on the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mambasdk import ops


@dataclass
class Case:
    """`ours` and `peer` take the tensors by name; the first output is compared, and differentiated where `backward`."""

    operation: str
    shape: str
    tensors: dict[str, Tensor]
    ours: Callable[..., Any]
    peer: Callable[..., Any]
    peer_name: str
    backward: bool = True
    compiled: bool = False  # measure the peer under torch.compile too
    length: int = 0  # of dimension 1 of the tensors named in `sequences`
    sequences: tuple[str, ...] = ()
    longest_peer: int = 4096  # a per-step loop on longer sequences takes minutes, so it is not measured there
    longest_check: int = 4096  # beyond it only the results of a prefix are compared
    goals: Mapping[str, float] = field(default_factory=dict)  # pass -> least ratio to the peer

    @property
    def dtype(self) -> str:
        """Of the first tensor."""
        return str(next(iter(self.tensors.values())).dtype).removeprefix("torch.")

    @property
    def measures_peer(self) -> bool:
        """Whether the peer runs on the whole case."""
        return self.length <= self.longest_peer or not self.sequences

    def prefix(self, steps: int) -> dict[str, Tensor]:
        """The tensors with their first steps only."""
        return {name: t[:, :steps] if name in self.sequences else t for name, t in self.tensors.items()}


def random(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape) * scale).to(dtype)


def call(operation: str, **given: Any) -> Callable[..., Any]:
    """Ours, with these arguments given."""
    return partial(ops.call, operation, **given)

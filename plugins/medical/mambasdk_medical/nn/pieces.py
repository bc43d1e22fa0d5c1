"""Sequences of millions of tokens in pieces: each continues from the state of the one before, so nothing changes."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

PIECE = 1 << 18  # tokens; at 64 inner channels what a Mamba mixer holds of a piece is near 400 MB


class Layer(Protocol):
    """A causal layer of tokens that keeps the state contract of `mambasdk.nn.Mamba`."""

    def __call__(self, x: Tensor, state: Any = None, *, return_state: bool = False) -> Any:
        """(B, L, C) -> (B, L, C'); with `return_state`, (that, the state after the last token)."""


def in_pieces(layer: Layer, x: Tensor, length: int = PIECE) -> Tensor:
    """`layer(x)` of tokens x (B, L, C), computed `length` tokens at a time.

    What the layer makes on its way lives for one piece, so memory beside x and the output does not grow with L.
    """
    tokens = x.shape[1]
    if tokens <= length:
        whole: Tensor = layer(x)
        return whole
    parts: list[Tensor] = []
    state = None
    for start in range(0, tokens, length):
        part, state = layer(x[:, start : start + length], state, return_state=True)
        parts.append(part)
    return torch.cat(parts, dim=1)

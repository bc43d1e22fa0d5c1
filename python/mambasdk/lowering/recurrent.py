"""`torch.nn.GRU` in an exported graph: as the SDK's operation, where torch would unroll every step of the example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mambasdk.errors import LoweringError


@contextmanager
def recurrent_operations() -> Iterator[None]:
    """While a model is traced, its GRU layers call `torch.ops.mambasdk.gru`."""
    library: Any = torch._VF
    kept = library.gru
    library.gru = _gru
    try:
        yield
    finally:
        library.gru = kept


def _gru(
    x: Tensor,
    initial: Tensor,
    weights: Sequence[Tensor],
    bias: bool,
    layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
    batch_first: bool,
    *packed: object,
) -> tuple[Tensor, Tensor]:
    """What torch._VF.gru gives for a padded batch: every step of the last layer, and the last state of each layer."""
    if packed or not isinstance(batch_first, bool):
        raise LoweringError("a GRU over packed sequences", way_out="pass a padded batch")
    if training and dropout > 0 and layers > 1:
        raise LoweringError("dropout between the layers of a GRU that trains", way_out="model.eval()")
    y = x if batch_first else x.transpose(0, 1)
    directions = 2 if bidirectional else 1
    each = 4 if bias else 2
    last = []
    for layer in range(layers):
        parts = []
        for direction in range(directions):
            index = layer * directions + direction
            own = list(weights[index * each : (index + 1) * each])
            gates = F.linear(y, own[0], own[2] if bias else None)
            hidden, end = torch.ops.mambasdk.gru(
                gates, own[1], own[3] if bias else None, initial[index], None, direction == 1
            )
            parts.append(hidden)
            last.append(end)
        y = parts[0] if directions == 1 else torch.cat(parts, -1)
    return (y if batch_first else y.transpose(0, 1)), torch.stack(last)

"""Averaged weights of a run: what is evaluated and packaged instead of the last step's. Needs torch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_RISE = 2000.0  # steps over which the decay grows towards its own value


class WeightAverage:
    """An exponential moving average of a model's floating-point parameters and buffers; others are those of the model.

    After step n (from 1) the average keeps the share decay * (1 - exp(-n / 2000)) of itself, so that short runs average
    few steps; as detectors of the YOLO family are trained. decay: from 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = {name: tensor.detach().clone() for name, tensor in _averaged(model)}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after a step in."""
        share = self._decay * (1 - math.exp(-step / _RISE))
        for name, tensor in _averaged(model):
            self._weights[name].lerp_(tensor, 1 - share)

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model has the averaged weights inside this context."""
        own = {name: tensor.detach().clone() for name, tensor in _averaged(model)}
        self.put(model)
        try:
            yield
        finally:
            _assign(model, own)

    def put(self, model: nn.Module) -> None:
        """Give the model the averaged weights."""
        _assign(model, self._weights)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors by name."""
        return dict(self._weights)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for name, tensor in self._weights.items():
            tensor.copy_(state[name])


def _averaged(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in model.state_dict().items() if tensor.is_floating_point()]


@torch.no_grad()
def _assign(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in _averaged(model):
        tensor.copy_(tensors[name])

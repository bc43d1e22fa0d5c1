"""Gradients of float16: scaled up where they enter the model's graph, back where they reach a weight. Needs torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import distributed

_START = 2.0**16
_LEAST = 2.0**-10
_PATIENCE = 2000  # steps without an overflow after which the scale doubles


class GradientScaling:
    """Keeps gradients within the range of float16. A step whose gradients overflow is left out, and the scale halved.

    As torch.amp.GradScaler does, for a trainer that knows nothing of it: `scaled` multiplies gradients on their way
    into the model, hooks of its parameters divide them, and a hook of the optimiser leaves a step out.
    """

    def __init__(self, model: nn.Module) -> None:
        self.scale = _START
        self.good_steps = 0
        self.overflowed = False
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_hook(self._unscaled)

    def scaled(self, logits: Tensor) -> Tensor:
        """`logits` in float32; its gradient comes multiplied by the scale."""
        apply: Any = _Scaled.apply
        made: Tensor = apply(logits.float(), self.scale)
        return made

    def _unscaled(self, gradient: Tensor) -> Tensor:
        if not bool(gradient.isfinite().all()):
            self.overflowed = True
            return torch.zeros_like(gradient)
        return gradient / self.scale

    def watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave steps of this optimiser out whose gradients overflowed."""
        optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        device = optimizer.param_groups[0]["params"][0].device
        # An overflow in one of several processes is one of all: their weights must stay the same.
        (overflows,) = distributed.sum_numbers((float(self.overflowed),), device)
        if not overflows:
            self.good_steps += 1
            if self.good_steps % _PATIENCE == 0:
                self.scale *= 2
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # an optimiser passes over these
        self.overflowed, self.good_steps = False, 0
        self.scale /= 2
        if self.scale < _LEAST:
            raise InvalidArgumentError(
                "gradients overflow float16 at every scale", where="training", way_out="use --amp bfloat16"
            )

    def state_dict(self) -> dict[str, float]:
        """Scale and steps since it changed."""
        return {"scale": self.scale, "good_steps": float(self.good_steps)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take back what `state_dict` gave."""
        self.scale, self.good_steps = float(state["scale"]), int(state["good_steps"])


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.scale, None

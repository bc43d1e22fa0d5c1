"""Sums and activations in the memory of their first argument, in inference: it must be read by nothing else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def silu_of(x: Tensor) -> Tensor:
    """SiLU of x; in its memory where no derivative needs it."""
    return functional.silu(x, inplace=not torch.is_grad_enabled())


def sum_of(x: Tensor, y: Tensor) -> Tensor:
    """X + y of one shape and dtype; in the memory of x where no derivative needs it."""
    return x + y if torch.is_grad_enabled() else x.add_(y)

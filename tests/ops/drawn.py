"""Random arguments of operations, and the same numbers for NumPy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Normal numbers, the same for a shape and a seed whatever the dtype (before rounding to it)."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def exact(t: torch.Tensor) -> Array:
    """The numbers of a tensor in float64."""
    return t.detach().double().numpy()

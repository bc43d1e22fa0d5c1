"""A matrix without structure."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mambasdk.nn.matrix_mixers.structure import Sizes, Structure


class FixedDense(Structure):
    """Parameter `M` (H, L, L) over sqrt(L)."""

    data_dependent = False

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.M = nn.Parameter(torch.randn(sizes.heads, sizes.length, sizes.length))

    def matrix(self, v: Tensor, features: Tensor, steps: Tensor, kept: Tensor | None = None) -> Tensor:
        """See Structure."""
        length = v.shape[1]
        return self.M[:, :length, :length].unsqueeze(0) / math.sqrt(self.sizes.length)

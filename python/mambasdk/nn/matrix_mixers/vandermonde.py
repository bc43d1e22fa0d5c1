"""Vandermonde matrices: powers on the unit circle, which is to say cosines."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from mambasdk.nn.matrix_mixers.structure import QueryKey, Structure


class Vandermonde(QueryKey):
    """`m_ij = sum_d (cos(2 pi eps q_id j) - cos(2 pi eps k_jd i)) / sqrt(2 L q)`."""

    activated = False
    epsilon: ClassVar[float] = 1e-3

    def scores(self, q: Tensor, k: Tensor, kept: Tensor | None) -> Tensor:
        """See QueryKey."""
        places = torch.arange(q.shape[-2], device=q.device, dtype=torch.float32) * (2 * math.pi * self.epsilon)
        places = places.to(q.dtype)
        of_queries = torch.cos(q.unsqueeze(-2) * places[:, None]).sum(-1)  # (B, H, i, j)
        of_keys = torch.cos(k.unsqueeze(-3) * places[:, None, None]).sum(-1)
        return (of_queries - of_keys) / math.sqrt(2 * self.sizes.length * self.sizes.qk_dim)


class Fourier(Structure):
    """The real part of the Fourier transform, `m_ij = cos(2 pi i j / L) / sqrt(L)`: what the published code runs as the
    Vandermonde matrix of parameters. Nothing in it is learned.
    """

    data_dependent = False

    def matrix(self, v: Tensor, features: Tensor, steps: Tensor, kept: Tensor | None = None) -> Tensor:
        """See Structure."""
        full = self.sizes.length
        places = torch.arange(v.shape[1], device=v.device)
        # Whole turns go before the cosine: i j itself has too few bits for it.
        turns = (places[:, None] * places[None, :] % full).to(v.dtype) / full
        matrix = torch.cos(2 * math.pi * turns) / math.sqrt(full)
        return matrix.expand(1, self.sizes.heads, -1, -1)

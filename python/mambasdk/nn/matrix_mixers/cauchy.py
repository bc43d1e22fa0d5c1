"""Cauchy matrices: reciprocals of sums."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mambasdk.nn.matrix_mixers.structure import QueryKey, Sizes


class FixedCauchy(QueryKey):
    """`m_ij = sum_d 1 / (e^q_id + e^k_jd + 1e-8) / sqrt(L q)`, of parameters. The sum is of published code: the paper's
    text has a difference, which passes through zero.
    """

    data_dependent = False
    activated = False

    def scores(self, q: Tensor, k: Tensor, kept: Tensor | None) -> Tensor:
        """See QueryKey."""
        above, below = self._terms(q), self._terms(k)
        matrix = (above.unsqueeze(-2) + below.unsqueeze(-3) + 1e-8).reciprocal().sum(-1)
        return matrix / math.sqrt(self.sizes.length * self.sizes.qk_dim)

    def _terms(self, side: Tensor) -> Tensor:
        return side.exp()


class Cauchy(FixedCauchy):
    """The same of tokens, with a learned scalar `bias` added to both exponentials."""

    data_dependent = True

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.bias = nn.Parameter(torch.tensor(0.5))

    def _terms(self, side: Tensor) -> Tensor:
        return side.exp() + self.bias

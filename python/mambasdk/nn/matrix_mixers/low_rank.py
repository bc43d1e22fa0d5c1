"""Products of queries and keys: low-rank matrices, and attention, their softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mambasdk.nn.matrix_mixers.structure import QueryKey


class LowRank(QueryKey):
    """`m_ij = q_i . k_j / sqrt(L q)`."""

    def scores(self, q: Tensor, k: Tensor, kept: Tensor | None) -> Tensor:
        """See QueryKey."""
        return torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(self.sizes.length * self.sizes.qk_dim)


class FixedLowRank(LowRank):
    """The same with queries and keys that are parameters."""

    data_dependent = False


class Attention(QueryKey):
    """`m_i = softmax(q_i . k / sqrt(q))`."""

    activated = False

    def scores(self, q: Tensor, k: Tensor, kept: Tensor | None) -> Tensor:
        """See QueryKey."""
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(self.sizes.qk_dim)
        if kept is not None:
            # Not -inf, whose softmax is NaN in a row without a token; there the values are zero anyway.
            scores = scores.masked_fill(~kept[:, None, None, :], torch.finfo(scores.dtype).min)
        return scores.softmax(-1)

"""What the structures of matrices have in common: sizes, what they take of each token, the product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    """heads: H. headdim: P. qk_dim: q, the rank per head. length: the longest sequence."""

    heads: int
    headdim: int
    qk_dim: int
    length: int


class Structure(nn.Module):
    """A family of matrices (L, L), one for each head, and the product with them.

    data_dependent: whether the matrix is made of the tokens; else it is the same for all, a parameter.
    features: numbers of each token that it takes, through the convolution like the values. activated: and through
    SiLU. steps: further numbers, which are not convolved. residual: whether the product is added to the values.
    """

    data_dependent: ClassVar[bool] = True
    activated: ClassVar[bool] = True
    residual: ClassVar[bool] = True

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.features = 0
        self.steps = 0

    def matrix(
        self,
        v: Tensor,  # (B, L, I)
        features: Tensor,  # (B, L, features)
        steps: Tensor,  # (B, L, steps)
        kept: Tensor | None = None,  # (B, L) bool: where there is a token; None: everywhere
    ) -> Tensor:
        """The matrices (B, H, L, L), or (1, H, L, L) of those that are the same for all."""
        raise NotImplementedError

    def mix(self, v: Tensor, features: Tensor, steps: Tensor, kept: Tensor | None = None) -> Tensor:
        """Their product with v, (B, L, H, P); arguments as of `matrix`. v is zero where nothing is kept."""
        return torch.matmul(self.matrix(v, features, steps, kept), self.by_head(v).transpose(1, 2)).transpose(1, 2)

    def by_head(self, v: Tensor) -> Tensor:
        """V (B, L, I) as (B, L, H, P)."""
        return torch.unflatten(v, -1, (self.sizes.heads, self.sizes.headdim))


class QueryKey(Structure):
    """A matrix of queries and keys, (…, L, q) for each head: of the tokens, or parameters `q_matrix` and `k_matrix`."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        if self.data_dependent:
            self.features = 2 * sizes.heads * sizes.qk_dim
        else:
            shape = (sizes.length, sizes.heads, sizes.qk_dim)
            self.q_matrix = nn.Parameter(torch.randn(shape))
            self.k_matrix = nn.Parameter(torch.randn(shape))

    def matrix(self, v: Tensor, features: Tensor, steps: Tensor, kept: Tensor | None = None) -> Tensor:
        """See Structure."""
        length = v.shape[1]
        if self.data_dependent:
            sides = features.unflatten(-1, (2, self.sizes.heads, self.sizes.qk_dim)).unbind(2)
        else:
            sides = tuple(side[:length].unsqueeze(0) for side in (self.q_matrix, self.k_matrix))
        q, k = (side.transpose(1, 2) for side in sides)  # (B, H, L, q)
        return self.scores(q, k, kept)

    def scores(self, q: Tensor, k: Tensor, kept: Tensor | None) -> Tensor:
        """(B, H, L, L) of queries and keys (B, H, L, q)."""
        raise NotImplementedError

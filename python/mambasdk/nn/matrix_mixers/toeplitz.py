"""Toeplitz matrices: a weight for each distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mambasdk.errors import ShapeError
from mambasdk.nn.matrix_mixers.structure import Sizes, Structure


class FixedToeplitz(Structure):
    """`m_ij = c[i - j + L - 1] / (2 sqrt(L))` with parameter `conv_params` c (H, 2L - 1).

    shifted: as the published code computes it: `c[(i - j + L) mod (2L - 1)]`, off by one, so that the last weight of
    the past wraps to the most distant future; for its checkpoints, and for sequences of the full length alone.
    """

    data_dependent = False

    def __init__(self, sizes: Sizes, *, shifted: bool = False) -> None:
        super().__init__(sizes)
        self.shifted = shifted
        self._add_weights()

    def _add_weights(self) -> None:
        self.conv_params = nn.Parameter(torch.randn(self.sizes.heads, 2 * self.sizes.length - 1))

    def matrix(self, v: Tensor, features: Tensor, steps: Tensor, kept: Tensor | None = None) -> Tensor:
        """See Structure."""
        length = v.shape[1]
        if self.shifted and length != self.sizes.length:
            raise ShapeError(
                "a shifted Toeplitz matrix has one size", where="Toeplitz", expected=self.sizes.length, got=length
            )
        weights = self._weights(features)  # (B, H, 2M - 1), the middle one for i = j
        full = (weights.shape[-1] + 1) // 2
        places = torch.arange(length, device=v.device)
        lags = places[:, None] - places[None, :] + full - 1
        if self.shifted:
            lags = (lags + 1) % (2 * full - 1)
        matrix = torch.unflatten(weights.index_select(-1, lags.flatten()), -1, (length, length))
        return matrix * (0.5 / math.sqrt(self.sizes.length))

    def _weights(self, features: Tensor) -> Tensor:
        return self.conv_params.unsqueeze(0)


class Toeplitz(FixedToeplitz):
    """The same with weights of tokens: token k gives those for the distance k to the past and to the future."""

    data_dependent = True

    def _add_weights(self) -> None:
        self.features = 2 * self.sizes.heads

    def _weights(self, features: Tensor) -> Tensor:
        past, future = features.unflatten(-1, (2, -1)).permute(2, 0, 3, 1)  # (B, H, L) each
        return torch.cat([future[..., 1:].flip(-1), past], -1)

"""Stochastic depth (arXiv 1603.09382): in training a residual branch is left out for some samples of the batch."""

from __future__ import annotations

from torch import Tensor, nn


def drop_path(x: Tensor, rate: float) -> Tensor:
    """X (B, …) with whole samples zeroed with probability `rate`, the others scaled by 1 / (1 - rate)."""
    if rate == 0:
        return x
    kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - rate)
    return x * (kept / (1 - rate))


class DropPath(nn.Module):
    """`drop_path` in training; the input itself in eval mode."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, …) to the same shape; x itself in eval mode."""
        return drop_path(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        """The module's line in a printed model."""
        return f"rate={self.rate}"

"""Rotary positions: pairs of channels turned by the position times a frequency. Source: arXiv 2104.09864."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.precision import accumulate_dtype


@dataclass(frozen=True)
class Rotary:
    """How queries and keys are turned.

    channels: the first so many of each head turn, an even number. base: pair i turns by position * base^(-2i/channels).
    interleaved: pairs are neighbours (0, 1), (2, 3), …; else channel i and i + channels/2.
    """

    channels: int
    base: float = 10000.0
    interleaved: bool = False

    def __post_init__(self) -> None:
        if self.channels < 2 or self.channels % 2 or not self.base > 0:
            raise InvalidArgumentError("bad rotary positions", expected="an even number of channels", got=repr(self))

    def tables(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions (…), (…, channels/2) each, in the dtype that `like` accumulates in."""
        wide = accumulate_dtype(like.new_empty(0)).dtype
        pairs = torch.arange(0, self.channels, 2, device=like.device, dtype=wide)
        angles = positions.to(wide).unsqueeze(-1) * (1.0 / self.base ** (pairs / self.channels))
        return angles.cos(), angles.sin()

    def turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """X (B, L, H, E) turned by tables (L, R) or (B, L, R)."""
        if cos.ndim == 2 and not torch.is_grad_enabled() and cos.dtype == torch.float32:
            y: Tensor = torch.ops.mambasdk.rotary(x, cos, sin, self.interleaved)
            return y
        cos, sin = cos.unsqueeze(-2).to(x.dtype), sin.unsqueeze(-2).to(x.dtype)
        turned, rest = x.split([self.channels, x.shape[-1] - self.channels], dim=-1)
        if self.interleaved:
            first, second = turned.unflatten(-1, (-1, 2)).unbind(-1)
        else:
            first, second = turned.chunk(2, dim=-1)
        parts = (first * cos - second * sin, second * cos + first * sin)
        turned = torch.stack(parts, -1).flatten(-2) if self.interleaved else torch.cat(parts, -1)
        return torch.cat([turned, rest], -1)

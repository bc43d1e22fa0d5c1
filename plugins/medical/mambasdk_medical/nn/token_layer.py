"""Layers that read a map as a sequence of tokens, in float32 under autocast too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk.errors import ShapeError
from mambasdk.nn import LayerNorm


class TokenLayer(nn.Module):
    """Base of a layer on maps (B, C, *S): tokens in raster order, a subclass's `mix`, and a map again.

    dim: numbers of a token: C, or with channel_tokens the positions of a map, whose C channels then are the tokens; such
    a layer takes maps of that many positions alone. Autocast is off inside: half precision overflows in recurrences.
    Parameters `norm.*` (dim), for `mix` to use.
    """

    def __init__(self, dim: int, *, channel_tokens: bool = False) -> None:
        super().__init__()
        self.dim, self.channel_tokens = dim, channel_tokens
        self.norm = LayerNorm(dim)

    def mix(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, L, dim) to the same shape."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, *S) to the same shape and dtype. Raises ShapeError."""
        flat = x.flatten(2)  # (B, C, P)
        tokens = flat if self.channel_tokens else flat.transpose(1, 2)  # (B, L, dim), a view
        if tokens.shape[2] != self.dim:
            what = "positions" if self.channel_tokens else "channels"
            raise ShapeError(
                "bad map", where=type(self).__name__, expected=f"{self.dim} {what}", got=tuple(x.shape)
            )
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                mixed = self.mix(tokens.to(self.norm.weight.dtype))
        else:
            mixed = self.mix(tokens)
        flat = mixed if self.channel_tokens else mixed.transpose(1, 2)
        # The compiler fails on strides that are products of free dims.
        flat = flat.contiguous() if torch.compiler.is_exporting() else flat
        return flat.reshape(x.shape).to(x.dtype)

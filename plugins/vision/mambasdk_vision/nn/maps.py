"""Convolutions and activations on channel-last maps (B, H, W, C), which torch sees as channels_last memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError

_ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "gelu": nn.GELU, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def channel_first(x: Tensor) -> Tensor:
    """View a map (B, H, W, C) as (B, C, H, W), for torch's modules of maps."""
    x = x.permute(0, 3, 1, 2)
    # The compiler fails on strides that are products of free dims.
    return x.contiguous() if torch.compiler.is_exporting() else x


def channel_last(x: Tensor) -> Tensor:
    """View a map (B, C, H, W) as (B, H, W, C); the other way of `channel_first`."""
    x = x.permute(0, 2, 3, 1)
    return x.contiguous() if torch.compiler.is_exporting() else x


class MapConv2d(nn.Conv2d):
    """nn.Conv2d from (B, H, W, C) to (B, H', W', C'); parameters as there. No copies: only strides change."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to (B, H', W', C')."""
        return channel_last(super().forward(channel_first(x)))


def activation(name: str, where: str) -> nn.Module:
    """The activation that upstream configurations call by this name; raises InvalidArgumentError for others."""
    if name.lower() not in _ACTIVATIONS:
        raise InvalidArgumentError(
            "unknown activation", where=where, expected=" or ".join(_ACTIVATIONS), got=repr(name)
        )
    return _ACTIVATIONS[name.lower()]()

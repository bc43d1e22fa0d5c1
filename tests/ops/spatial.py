"""Maps between torch's channel-first order and the operations' channel-last one, of any number of spatial dims."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from mambasdk import ops

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t.contiguous(),
    "channel-first memory": lambda t: t.movedim(-1, 1).contiguous().movedim(1, -1),
    "every second channel": lambda t: t.repeat_interleave(2, dim=-1)[..., ::2],
    "rows apart": lambda t: torch.cat([t, t], dim=-2)[..., : t.shape[-2], :],
}


def three(values: Sequence[int], missing: int = 1) -> tuple[int, int, int]:
    """One to three spatial values as (depth, height, width), `missing` in front."""
    d, h, w = (missing,) * (3 - len(values)) + tuple(values)
    return d, h, w


def channel_last(x: torch.Tensor) -> torch.Tensor:
    """(B, C, spatial…) -> (B, D, H, W, C), extents of 1 in front."""
    batch, channels, *space = x.shape
    return x.reshape(batch, channels, *three(space)).movedim(1, -1)


def channel_first(y: torch.Tensor, spatial: int) -> torch.Tensor:
    """(B, D, H, W, C) -> (B, C, spatial…): the last `spatial` of the extents, of which the others are 1."""
    assert all(n == 1 for n in y.shape[1 : 4 - spatial])
    return y.movedim(-1, 1).reshape(y.shape[0], y.shape[4], *y.shape[4 - spatial : 4])


def call(op: str, x: torch.Tensor, layout: str = "contiguous", **arguments: object) -> torch.Tensor:
    """The operation on torch's (B, C, spatial…), its output the same way."""
    y = ops.call(op, x=LAYOUTS[layout](channel_last(x)), **arguments)
    assert isinstance(y, torch.Tensor)
    return channel_first(y, x.dim() - 2)

"""Keys and queries of Mamba-3: a bias for each head and a rotation by angles that the data give (arXiv 2603.15569)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def turned(small: Tensor, bias: Tensor, angle: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """(B, L, R, H, N), dtype of `small`: each pair (u, v) of `small + bias` becomes (cos u - sin v, sin u + cos v).

    small: (B, L, R, G, N), of which H / G neighbouring heads read one group. bias: (R, H, N). angle: (B, L, H, S); cos,
    sin: (B, L, 1, H, S), its own, without a gradient. interleaved: the pairs are channels (2i, 2i+1), else
    (i, i + N/2), i < S.
    """
    made: Tensor = _Turn.apply(small, bias, angle, cos, sin, interleaved)  # type: ignore[no-untyped-call]
    return made


class _Turn(torch.autograd.Function):
    """Its derivative is written down because the chain of its parts reads and writes several times as much memory."""

    generate_vmap_rule = True

    @staticmethod
    def forward(small: Tensor, bias: Tensor, angle: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
        states, angles = bias.shape[-1], cos.shape[-1]
        first, second, rest = _channels(states, angles, interleaved)
        kept = [_by_head(small, bias, channels) for channels in rest]
        if angles:
            a, b = _by_head(small, bias, first), _by_head(small, bias, second)  # (B, L, R, H, S)
            kept = _joined(torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(a * sin, b, cos), kept, interleaved)
        return torch.cat(kept, -1).to(small.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        small, bias, _, cos, sin, interleaved = inputs
        ctx.save_for_backward(output, cos, sin)
        ctx.interleaved, ctx.groups, ctx.bias_dtype = interleaved, small.shape[3], bias.dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        made, cos, sin = ctx.saved_tensors  # made: (B, L, R, H, N)
        states, angles = made.shape[-1], cos.shape[-1]
        first, second, rest = _channels(states, angles, ctx.interleaved)
        wide = [grad[..., channels] for channels in rest]
        grad_angle = None
        if angles:
            grad_u, grad_v = grad[..., first].to(cos.dtype), grad[..., second].to(cos.dtype)
            # Turning (u, v) further moves it along (-v, u).
            along = torch.addcmul(grad_v * made[..., first], grad_u, made[..., second], value=-1)
            grad_angle = along.sum(2)  # (B, L, H, S)
            grad_a = torch.addcmul(grad_u * cos, grad_v, sin)
            grad_b = torch.addcmul(grad_v * cos, grad_u, sin, value=-1)
            wide = _joined(grad_a, grad_b, wide, ctx.interleaved)
        grad_turned_back = torch.cat([part.to(ctx.bias_dtype) for part in wide], -1)
        grad_bias = grad_turned_back.sum((0, 1))
        grad_small = torch.unflatten(grad_turned_back, 3, (ctx.groups, -1)).sum(4).to(grad.dtype)
        return grad_small, grad_bias, grad_angle, None, None, None


def _channels(states: int, angles: int, interleaved: bool) -> tuple[slice, slice, list[slice]]:
    """Channels of u, of v, and the rest in its order; none where nothing is left."""
    if interleaved or not angles:
        pairs = (slice(0, 2 * angles, 2), slice(1, 2 * angles, 2))
        rest = [slice(2 * angles, states)]
    else:
        half = states // 2
        pairs = (slice(0, angles), slice(half, half + angles))
        rest = [slice(angles, half), slice(half + angles, states)]
    return (*pairs, [channels for channels in rest if channels.start < channels.stop])


def _by_head(small: Tensor, bias: Tensor, channels: slice) -> Tensor:
    """`small + bias` of some channels (B, L, R, H, …): taken before heads multiply them."""
    rank, heads, _ = bias.shape
    groups = small.shape[3]
    own = bias[..., channels].reshape(rank, groups, heads // groups, -1)
    return (small[..., channels].unsqueeze(4) + own).flatten(3, 4)


def _joined(u: Tensor, v: Tensor, rest: list[Tensor], interleaved: bool) -> list[Tensor]:
    """The pieces in the order of the channels."""
    if interleaved:
        return [torch.stack([u, v], -1).flatten(-2), *rest]
    return [u, *rest[:1], v, *rest[1:]]

"""SS2D and its block by their definition, one pixel after the other in float64, for tests of several families."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def routes(height: int, width: int) -> list[list[tuple[int, int]]]:
    """Rows, columns, and both from the end."""
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    return [rows, columns, rows[::-1], columns[::-1]]


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer norm over the last dim."""
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def part_of(weights: dict[str, Tensor]) -> Callable[[str], dict[str, Tensor]]:
    """A function: the tensors under a prefix, without it."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}

    return part


def ss2d(w: dict[str, Tensor], v: Tensor) -> Tensor:
    """The mixer with tensors w on one map v (H, W, C): arXiv 2401.10166, its first version."""
    inner, states = w["conv2d.weight"].shape[0], w["A_logs"].shape[1]
    rank = w["dt_projs_weight"].shape[2]
    height, width, _ = v.shape
    u, z = (v @ w["in_proj.weight"].T).split(inner, dim=-1)
    maps = functional.conv2d(u.permute(2, 0, 1)[None], w["conv2d.weight"], w["conv2d.bias"], padding=1, groups=inner)
    u = silu(maps[0].permute(1, 2, 0))
    merged = torch.zeros_like(u)
    for k, route in enumerate(routes(height, width)):
        own = slice(k * inner, (k + 1) * inner)
        A, D = -w["A_logs"][own].exp(), w["Ds"][own]
        h = torch.zeros(inner, states, dtype=v.dtype)
        for i, j in route:
            x = u[i, j]
            low, B, C = (w["x_proj_weight"][k] @ x).split([rank, states, states])
            delta = functional.softplus(w["dt_projs_weight"][k] @ low + w["dt_projs_bias"][k])
            h = torch.exp(delta[:, None] * A) * h + delta[:, None] * B * x[:, None]
            merged[i, j] += h @ C + D * x
    return (normed(merged, w["out_norm.weight"], w["out_norm.bias"]) * silu(z)) @ w["out_proj.weight"].T


def merged_patches(w: dict[str, Tensor], v: Tensor) -> Tensor:
    """Patch merging with tensors w of one map v (H, W, C) of even sides."""
    parts = [v[0::2, 0::2], v[1::2, 0::2], v[0::2, 1::2], v[1::2, 1::2]]
    return normed(torch.cat(parts, dim=-1), w["norm.weight"], w["norm.bias"]) @ w["reduction.weight"].T


def embedded(w: dict[str, Tensor], image: Tensor) -> Tensor:
    """Patches of one image (C, H, W), a linear layer on each, a norm: a map (h, w, C)."""
    kernel = w["proj.weight"]
    side = kernel.shape[-1]
    channels, height, width = image.shape
    patches = image.reshape(channels, height // side, side, width // side, side)
    v = torch.einsum("cipjq,ocpq->ijo", patches, kernel) + w["proj.bias"]
    return normed(v, w["norm.weight"], w["norm.bias"])

"""Pooling, interpolation, sampling and norms of maps through PyTorch, in its channels_last memory format."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def _first(x: Tensor) -> Tensor:
    """(B, 1, H, W, C) -> (B, C, H, W), the same memory."""
    return x[:, 0].movedim(-1, 1)


def _last(y: Tensor) -> Tensor:
    return y.movedim(1, -1).unsqueeze(1)


def max_pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """x (B, 1, H, W, C) -> windows of kernel x kernel, padded by half of it."""
    return _last(functional.max_pool2d(_first(x), kernel, stride, (kernel - 1) // 2))


def average_pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """x (B, 1, H, W, C) -> windows of kernel x kernel, padded by half of it."""
    return _last(functional.avg_pool2d(_first(x), kernel, stride, (kernel - 1) // 2))


def adaptive_average_pool(x: Tensor) -> Tensor:
    """x (B, 1, H, W, C) -> its mean (B, 1, 1, 1, C)."""
    return _last(functional.adaptive_avg_pool2d(_first(x), 1))


def resize(x: Tensor, mode: str) -> Tensor:
    """x (B, 1, H, W, C) -> twice the height and width."""
    return _last(functional.interpolate(_first(x), scale_factor=2, mode=mode))


def grid_sample(x: Tensor, grid: Tensor) -> Tensor:
    """x (B, 1, H, W, C), grid (B, 1, h, w, 2) -> (B, 1, h, w, C), bilinear."""
    return _last(functional.grid_sample(_first(x), grid[:, 0], align_corners=False))


def deformable_sample(x: Tensor, offset_mask: Tensor, groups: int) -> Tensor:
    """x (B, H, W, C), offset_mask (B, H, W, E) -> (B, H, W, C): 3 x 3 taps of every group by one grid_sample."""
    batch, height, width, _ = x.shape
    entries = offset_mask[..., : 27 * groups].unflatten(-1, (groups, 27)).permute(0, 3, 1, 2, 4).flatten(0, 1)
    tap = torch.arange(9)
    at = entries[..., :18].unflatten(-1, (9, 2)) + torch.stack([tap // 3 - 1, tap % 3 - 1], -1)  # (width, height)
    at = at + torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1)[:, :, None]
    grid = (2 * at + 1) / torch.tensor([width, height]) - 1  # (B * G, H, W, 9, 2)
    maps = x.unflatten(-1, (groups, -1)).permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B * G, C / G, H, W)
    taps = functional.grid_sample(maps, grid.flatten(2, 3), align_corners=False).unflatten(-1, (width, 9))
    y = (taps * entries[:, None, ..., 18:]).sum(-1)  # (B * G, C / G, H, W)
    return y.unflatten(0, (batch, groups)).permute(0, 3, 4, 1, 2).flatten(-2)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, side: int) -> Tensor:
    """x (B, side * side, C)."""
    y = functional.group_norm(x.unflatten(1, (side, side)).movedim(-1, 1), groups, weight, bias)
    return y.movedim(1, -1).flatten(1, 2)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, S, C) of any memory."""
    return functional.layer_norm(x, weight.shape, weight, bias)

"""Boxes as tensors: corners and centres, overlap, and where the places of maps lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mambasdk.nn import accumulate_dtype

_EPS = 1e-7  # of complete_iou (arXiv 1911.08287, as YOLO computes it)


def corners(boxes: Tensor) -> Tensor:
    """(…, 4) centre, width and height to left, top, right, bottom."""
    centre, size = boxes.chunk(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap over union of boxes (…, 4) by corners, of each pair that broadcasting makes; 0 where both are empty."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(dim=-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).prod(dim=-1) for box in (a, b))
    return overlap / (area_a + area_b - overlap).clamp(min=1e-16)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """CIoU of boxes (…, 4) by corners: overlap, distance of centres, aspect (arXiv 1911.08287), at most 1.

    The weight of the aspect is a constant for derivatives.
    """
    (wa, ha), (wb, hb) = ((box[..., 2] - box[..., 0], box[..., 3] - box[..., 1] + _EPS) for box in (a, b))
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(dim=-1)
    iou = overlap / (wa * ha + wb * hb - overlap + _EPS)
    around = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    diagonal = around.square().sum(dim=-1) + _EPS
    apart = (b[..., :2] + b[..., 2:] - a[..., :2] - a[..., 2:]).square().sum(dim=-1) / 4
    aspect = 4 / math.pi**2 * (torch.atan(wb / hb) - torch.atan(wa / ha)).square()
    with torch.no_grad():
        weight = aspect / (aspect - iou + (1 + _EPS))
    return iou - apart / diagonal - aspect * weight


def places(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, h, w) as one (B, A, C), level by level and row by row, float32 at least."""
    return torch.cat([accumulate_dtype(map_.permute(0, 2, 3, 1).flatten(1, 2)) for map_ in maps], dim=1)


def cells(maps: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Column and row (A, 2) of the places of maps (B, C, h, w), and each one's stride (A, 1)."""
    found, widths = [], []
    for map_, stride in zip(maps, strides, strict=True):
        height, width = map_.shape[2:]
        kind: Any = {"dtype": torch.promote_types(map_.dtype, torch.float32), "device": map_.device}
        row = torch.arange(height, **kind)[:, None].expand(height, width)
        column = torch.arange(width, **kind)[None].expand(height, width)
        found.append(torch.stack([column, row], dim=-1).flatten(0, 1))
        widths.append(torch.full((height * width, 1), stride, **kind))
    return torch.cat(found), torch.cat(widths)

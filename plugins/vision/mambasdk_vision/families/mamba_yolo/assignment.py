"""Which places of the maps answer for which object: task-aligned assignment (arXiv 2108.07755)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mambasdk_vision.nn.boxes import complete_iou

_CANDIDATES = 10  # places of each object
_ALPHA, _BETA = 0.5, 6.0  # exponents of the class's probability and of the overlap
_EPS = 1e-9


class Assignment(NamedTuple):
    """For each of A places: its object (A), 0 where it has none; whether it has one (A); targets (A, classes)."""

    objects: Tensor
    found: Tensor
    scores: Tensor


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, centres: Tensor, kinds: Tensor, objects: Tensor) -> Assignment:
    """The places of one image for its objects.

    scores: (A, classes) probabilities; boxes: (A, 4) that the places predict; centres: (A, 2) of the places; kinds: (n)
    int64 classes of the objects; objects: (n, 4) their boxes. Boxes are by corners, all in pixels.

    A place is a candidate where it lies inside an object; the best ten of each object, by p^0.5 CIoU^6, are taken. One
    that several objects want goes to the one that it overlaps best, of all inside which it lies. The target of its
    class is its merit, scaled so that the object's best place has the object's best overlap.
    """
    if not len(objects):
        return Assignment(
            torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device),
            torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device),
            torch.zeros_like(scores),
        )
    margins = torch.cat([centres - objects[:, None, :2], objects[:, None, 2:] - centres], dim=-1)  # (n, A, 4)
    inside = margins.amin(dim=-1) > _EPS  # (n, A)
    overlap = complete_iou(objects[:, None], boxes).clamp(min=0) * inside
    merit = scores[:, kinds].t().pow(_ALPHA) * overlap.pow(_BETA) * inside
    best = merit.topk(min(_CANDIDATES, len(boxes)), dim=1).indices
    chosen = torch.zeros_like(inside).scatter_(1, best, True) & inside
    closest = torch.zeros_like(inside).scatter_(0, overlap.argmax(dim=0, keepdim=True), True)
    chosen = torch.where(chosen.sum(dim=0) > 1, closest, chosen)
    found, owners = chosen.any(dim=0), chosen.int().argmax(dim=0)
    own_merit = merit * chosen
    scale = (overlap * chosen).amax(dim=1, keepdim=True) / (own_merit.amax(dim=1, keepdim=True) + _EPS)
    target = (own_merit * scale).amax(dim=0)  # (A)
    targets = torch.zeros_like(scores).scatter_(1, kinds[owners][:, None], (target * found)[:, None])
    return Assignment(owners, found, targets)

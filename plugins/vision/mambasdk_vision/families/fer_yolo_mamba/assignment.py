"""Which places of the maps answer for which object: SimOTA (arXiv 2107.08430)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk_vision.nn.boxes import box_iou

_RADIUS = 2.5  # strides from an object's centre within which a place is a candidate
_CANDIDATES = 10  # best overlaps whose sum is how many places an object gets
_OVERLAP = 3.0  # weight of the overlap's cost beside that of the class
_OUTSIDE = 1e5  # cost of a place that is not both inside the box and near its centre


class Assignment(NamedTuple):
    """places (P): which of the A places have an object; objects (P): which; overlap (P): IoU of both boxes."""

    places: Tensor
    objects: Tensor
    overlap: Tensor


@torch.no_grad()
def assign(
    scores: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor, kinds: Tensor, objects: Tensor
) -> Assignment:
    """The places of one image for its objects.

    scores: (A, classes), square roots of probability times objectness; boxes: (A, 4) that the places predict; centres:
    (A, 2) and strides: (A, 1) of the places; kinds: (n) int64 classes of the objects; objects: (n, 4) their boxes.
    Boxes are by corners, all in pixels.

    Each object takes the places of least cost, as many as the sum of its ten best overlaps, one at least; a place that
    several want goes to the one to which it costs least.
    """
    nothing = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    margins = torch.cat([centres - objects[:, None, :2], objects[:, None, 2:] - centres], dim=-1)  # (n, A, 4)
    inside = margins.amin(dim=-1) > 0  # (n, A)
    apart = (centres - (objects[:, None, :2] + objects[:, None, 2:]) / 2).abs().amax(dim=-1)
    near = apart < _RADIUS * strides.squeeze(-1)
    chosen = (inside | near).any(dim=0).nonzero().squeeze(-1)  # (P)
    if not len(objects) or not len(chosen):
        return Assignment(nothing, nothing, boxes.new_zeros(0))
    overlap = box_iou(objects[:, None], boxes[chosen])  # (n, P)
    right = functional.one_hot(kinds, scores.shape[1]).to(scores)[:, None].expand(-1, len(chosen), -1)
    kind = functional.binary_cross_entropy(scores[chosen].expand_as(right), right, reduction="none").sum(dim=-1)
    cost = kind - _OVERLAP * torch.log(overlap + 1e-8) + _OUTSIDE * ~(inside & near)[:, chosen]
    counts = overlap.topk(min(_CANDIDATES, len(chosen)), dim=1).values.sum(dim=1).int().clamp(min=1)
    taken = torch.zeros_like(overlap, dtype=torch.bool)
    for index, count in enumerate(counts.tolist()):
        taken[index, cost[index].topk(count, largest=False).indices] = True
    cheapest = torch.zeros_like(taken).scatter_(0, cost.argmin(dim=0, keepdim=True), True)
    taken = torch.where(taken.sum(dim=0) > 1, cheapest, taken)
    found, owners = taken.any(dim=0), taken.int().argmax(dim=0)
    best = overlap.gather(0, owners[None]).squeeze(0)
    return Assignment(chosen[found], owners[found], best[found])

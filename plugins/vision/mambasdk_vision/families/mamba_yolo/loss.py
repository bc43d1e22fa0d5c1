"""The loss of Mamba-YOLO: classes, overlap of boxes, and the distributions of their sides."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk_vision.families.mamba_yolo.assignment import assign
from mambasdk_vision.families.mamba_yolo.detect import Detect
from mambasdk_vision.nn.boxes import cells, complete_iou, corners, places

_BOX, _CLS, _DFL = 7.5, 0.5, 1.5  # weights of the three parts (arXiv 2406.05835)
_LAST = 0.01  # distance to the last bin that a target keeps


def detection_loss(
    detect: Detect, raw: Sequence[Tensor], targets: Sequence[Tensor], strides: Sequence[int]
) -> dict[str, Tensor]:
    """`box`, `cls` and `dfl` with their weights, and `loss`, their sum times the batch.

    raw, targets: see `Detector.loss`.
    """
    rows = places(raw)  # (B, A, 4 * bins + classes)
    corner, stride = cells(raw, strides)
    centres = corner + 0.5
    sides, logits = detect.split(rows)
    distances = detect.dfl(sides)
    boxes = torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)  # (B, A, 4), in cells
    height, width = (side * strides[0] for side in raw[0].shape[2:])
    scale = boxes.new_tensor([width, height, width, height])
    wanted, found, scores = [], [], []
    for index, objects in enumerate(targets):
        objects_px = corners(objects[:, 1:].to(boxes) * scale)
        with torch.no_grad():
            given = assign(
                logits[index].sigmoid(), boxes[index] * stride, centres * stride, objects[:, 0].long(), objects_px
            )
        padded = objects_px if len(objects_px) else boxes.new_zeros(1, 4)
        wanted.append(padded[given.objects] / stride)
        found.append(given.found)
        scores.append(given.scores)
    score = torch.stack(scores)
    total = score.sum().clamp(min=1)
    mask = torch.stack(found)  # (B, A)
    weight = score.sum(dim=-1)[mask]  # (P)
    goal = torch.stack(wanted)[mask]  # (P, 4)
    cls = functional.binary_cross_entropy_with_logits(logits, score, reduction="sum") / total
    box = ((1 - complete_iou(boxes[mask], goal)) * weight).sum() / total
    places_of = centres.expand(len(targets), -1, -1)[mask]
    dfl = (_distribution_loss(sides[mask], places_of, goal) * weight).sum() / total
    parts = {"box": _BOX * box, "cls": _CLS * cls, "dfl": _DFL * dfl}
    return {"loss": torch.stack(list(parts.values())).sum() * len(targets), **parts}


def _distribution_loss(sides: Tensor, centres: Tensor, goal: Tensor) -> Tensor:
    """Cross entropy (P) of the two bins around each side's distance, mean over sides; sides (P, 4, bins)."""
    bins = sides.shape[-1]
    distance = torch.cat([centres - goal[:, :2], goal[:, 2:] - centres], dim=-1).clamp(0, bins - 1 - _LAST)
    low = distance.floor()
    share = distance - low  # of the upper bin
    logs = sides.log_softmax(dim=-1)
    at_low = logs.gather(-1, low.long()[..., None]).squeeze(-1)
    at_high = logs.gather(-1, low.long()[..., None] + 1).squeeze(-1)
    return -(at_low * (1 - share) + at_high * share).mean(dim=-1)

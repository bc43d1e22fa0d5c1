"""The loss of FER-YOLO-Mamba: overlap of boxes, objects at all places, classes where there are objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk_vision.families.fer_yolo_mamba.assignment import Assignment, assign
from mambasdk_vision.nn.boxes import box_iou, cells, corners, places

_BOX = 5.0  # weight of the boxes (arXiv 2107.08430)


def decode_boxes(rows: Tensor, cell: Tensor, stride: Tensor) -> Tensor:
    """Centre, width and height (…, A, 4) in pixels of raw rows (…, A, 5 + classes)."""
    return torch.cat([rows[..., :2] + cell, rows[..., 2:4].exp()], dim=-1) * stride


def assignments(
    raw: Sequence[Tensor], targets: Sequence[Tensor], strides: Sequence[int], size: tuple[int, int]
) -> list[Assignment]:
    """The places of every image for its objects; raw, targets: see `Detector.loss`, size: (height, width)."""
    rows = places(raw)
    cell, stride = cells(raw, strides)
    boxes = corners(decode_boxes(rows, cell, stride))
    scores = (rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid()).sqrt()
    return [
        assign(scores[i], boxes[i], (cell + 0.5) * stride, stride, of[:, 0].long(), pixels(of, size, boxes))
        for i, of in enumerate(targets)
    ]


def pixels(objects: Tensor, size: tuple[int, int], like: Tensor) -> Tensor:
    """Corners (n, 4) in pixels of an image's objects (n, 5); size: its height and width."""
    height, width = size
    return corners(objects[:, 1:].to(like) * like.new_tensor([width, height, width, height]))


def detection_loss(
    raw: Sequence[Tensor], targets: Sequence[Tensor], strides: Sequence[int], size: tuple[int, int]
) -> dict[str, Tensor]:
    """`box` with its weight, `obj`, `cls`, and `loss`, their sum; each is over the number of places with objects.

    raw, targets: see `Detector.loss`. strides: by which places are decoded here. size: (height, width) of the image.
    """
    rows = places(raw)  # (B, A, 5 + classes)
    cell, stride = cells(raw, strides)
    given = assignments([map_.detach() for map_ in raw], targets, strides, size)
    owned = torch.zeros_like(rows[..., 4])
    box, cls = rows.new_zeros(()), rows.new_zeros(())
    for index, (of, objects) in enumerate(zip(given, targets, strict=True)):
        owned[index, of.places] = 1
        mine = rows[index, of.places]  # (P, 5 + classes)
        boxes = corners(decode_boxes(mine, cell[of.places], stride[of.places]))
        goal = pixels(objects, size, boxes)[of.objects]
        box = box + (1 - box_iou(boxes, goal).square()).sum()
        kinds = functional.one_hot(objects[of.objects, 0].long(), rows.shape[-1] - 5) * of.overlap[:, None]
        cls = cls + functional.binary_cross_entropy_with_logits(mine[:, 5:], kinds.to(mine), reduction="sum")
    obj = functional.binary_cross_entropy_with_logits(rows[..., 4], owned, reduction="sum")
    count = owned.sum().clamp(min=1)
    parts = {"box": _BOX * box / count, "obj": obj / count, "cls": cls / count}
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}

"""What evidence of detectors shares: sizes of images, boxes by corners, the head's suppression as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.testing.subject import Inputs
from mambasdk_vision import ObjectDetection


def sizes(model: Any) -> list[Inputs]:
    """Images of other sizes than the example's, the smallest among them."""
    noise = torch.Generator().manual_seed(5)
    return [{"image": torch.randn(size, generator=noise)} for size in ((1, 3, 32, 32), (3, 3, 96, 64), (2, 3, 32, 96))]


def by_corners(boxes: Tensor) -> Tensor:
    """Centre, width and height (n, 4) as left, top, right, bottom."""
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], dim=1)


def suppressed(boxes: Tensor, scores: Tensor, nms: Mapping[str, Any], image: Mapping[str, Any] | None = None) -> Tensor:
    """Rows (n, 6), best first, that the head `object_detection` leaves: corners, score, class.

    boxes, scores: what a Detector gives for one image. image: the size and transform of the original.
    """
    head = ObjectDetection(
        box_format="cxcywh",
        score_threshold=nms["conf_thres"],
        iou_threshold=nms.get("iou_thres", nms.get("nms_thres")),
        multi_label=nms.get("multi_label", False),
        max_detections=nms.get("max_det", 300),
    )
    found = head(boxes.detach().float().numpy(), scores.detach().float().numpy(), image=image)
    rows = [[*entry["box"], entry["score"], entry["index"]] for entry in found]
    return torch.tensor(rows, dtype=torch.float64).view(-1, 6)

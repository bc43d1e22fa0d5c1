"""Results of vision models: thin faces of the native heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mambasdk.pipeline import NativeProcessor


class ImageClassification(NativeProcessor):
    """Logits to the best labels.

    Options: labels (names by index), top_k (5), activation ("softmax", "sigmoid" or "none"), input ("logits").
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("vision", "image_classification", options, head=True)
        self._input = str(options.get("input", "logits"))

    def __call__(self, logits: Any) -> list[dict[str, Any]]:
        """logits: float32 (C) or (1, C). Returns {"label", "index", "score"} of each, best first."""
        labels: list[dict[str, Any]] = self.run_named({self._input: logits})["json"]["labels"]
        return labels


class ObjectDetection(NativeProcessor):
    """Boxes and scores to labelled boxes of the original image: threshold, suppression within a class, scaling back.

    Options: box_format ("xyxy", "xywh" or "cxcywh"), normalized (False) with input_size (224), activation ("none",
    "sigmoid" or "softmax"), background (-1), score_threshold (0.25), iou_threshold (0.45), max_detections (300), and
    labels.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("vision", "object_detection", options, head=True)

    def __call__(
        self, boxes: Any, scores: Any, classes: Any = None, *, image: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """boxes: float32 (N, 4); scores: float32 (N, C), or (N) with classes, int64 (N).

        image: what ImageProcessor made of the image; without it boxes stay in the model's pixels. Returns {"box": [x1,
        y1, x2, y2], "label", "index", "score"} of each, best first.
        """
        inputs = {"boxes": boxes, "scores": scores}
        if classes is not None:
            inputs["classes"] = classes
        if image is not None:
            inputs.update({name: image[name] for name in ("image_size", "image_transform")})
        detections: list[dict[str, Any]] = self.run(**inputs)["json"]["detections"]
        return detections

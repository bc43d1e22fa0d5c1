"""Results of vision models: thin faces of the native heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mambasdk.pipeline import Classification, PluginProcessor


class ImageClassification(Classification):
    """Logits to the best labels; options as mambasdk.pipeline.Classification has them."""

    plugin = "vision"
    kind = "image_classification"


class ObjectDetection(PluginProcessor):
    """Boxes and scores to labelled boxes of the original image: threshold, suppression within a class, scaling back.

    Options: box_format ("xyxy", "xywh" or "cxcywh"), normalized (False) with input_size (224), activation ("none",
    "sigmoid" or "softmax"), background (-1), score_threshold (0.25), iou_threshold (0.45), max_detections (300), and
    labels.
    """

    plugin = "vision"
    kind = "object_detection"
    head = True

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

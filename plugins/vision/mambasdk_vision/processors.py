"""Image preparation and results of vision models: thin faces of the native processor and heads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mambasdk.pipeline import Classification, PluginProcessor, raw_input

# ImageNet as the families were trained and evaluated: the shorter side to 256, the centre, mean and deviation.
IMAGENET: dict[str, Any] = {
    "kind": "image",
    "size": 224,
    "crop_pct": 0.875,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}

# A person's crop as top-down pose models are trained (arXiv 1804.06208); mean and deviation are ImageNet's.
PERSON_CROP: dict[str, Any] = {
    "kind": "person_crop",
    "size": [256, 192],
    "mean": IMAGENET["mean"],
    "std": IMAGENET["std"],
}


class ImageProcessor(PluginProcessor):
    """A PNG or JPEG file, or pixels, to the tensor that a model takes.

    Options, all by keyword: size (224, one integer or height and width), resize ("shortest", "exact" or "none"),
    crop_pct (1.0), interpolation ("bicubic" or "bilinear"; both antialiased as Pillow does), mean and std (of
    samples from 0 to 1), layout ("channels_first" or "channels_last"), output ("image"), max_pixels (67108864).
    """

    plugin = "vision"
    kind = "image"

    def __call__(self, image: str | os.PathLike[str] | bytes | Any) -> dict[str, Any]:
        """image: a path, a file's bytes, or uint8 (H, W, 3). Returns

        image: float32 (1, 3, H, W), or (1, H, W, 3) with layout "channels_last";
        image_size: int64 (2), height and width of the upright original;
        image_transform: float64 (4), scale_x, scale_y, offset_x, offset_y: original = scale * output + offset.

        Raises ValueError for a file that is damaged, too large or of another format.
        """
        return self.run(image=raw_input(image))


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


class MaskProcessor(PluginProcessor):
    """A PNG of class indices to its indices: with a palette, or grey of up to 8 bits.

    Option: max_pixels (67108864).
    """

    plugin = "vision"
    kind = "mask"

    def __call__(self, mask: str | os.PathLike[str] | bytes) -> Any:
        """mask: a path or a file's bytes. Returns uint8 (H, W). Raises ValueError for colours and damaged files."""
        return self.run(mask=raw_input(mask))["mask"]


class SemanticSegmentation(PluginProcessor):
    """Logits of a map to the class of every pixel of the original image.

    Options: labels, palette (colours as "#ff8000" by class; default: PASCAL VOC's), ignore (255, or -1 for more than
    255 classes: pixels that the model did not see), runs (False: the class map in the JSON too, as [index, length] row
    by row), max_pixels (67108864).
    """

    plugin = "vision"
    kind = "semantic_segmentation"
    head = True

    def __call__(self, logits: Any, *, image: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """logits: float32 (1, C, h, w) or (C, h, w). image: what ImageProcessor made; without it the map is of h x w.

        Returns class_map: uint8 (H, W) of the original image, int32 for more than 255 classes; palette: uint8 (C, 3);
        json: {"height", "width", "classes": [{"label", "index", "share", "pixels", "color"}]}, largest share first.
        """
        given = {} if image is None else {name: image[name] for name in ("image", "image_size", "image_transform")}
        return self.run(logits=logits, **given)


class PersonCrop(PluginProcessor):
    """An image and the boxes of the people in it to crops of one size, for top-down pose.

    Options, all by keyword: size ([256, 192], height and width), padding (1.25, of a box), mean and std (of samples
    from 0 to 1), output ("image"), max_people (1000), max_pixels (67108864).
    """

    plugin = "vision"
    kind = "person_crop"

    def __call__(
        self,
        image: str | os.PathLike[str] | bytes | Any,
        boxes: Any = None,
        *,
        box_scores: Any = None,
        affines: Any = None,
    ) -> dict[str, Any]:
        """image: a path, a file's bytes, or uint8 (H, W, 3). boxes: float32 (n, 4), x1, y1, x2, y2; None: the whole
        image is one person. affines: float64 (n, 6) in their place, from crops to the image. Returns

        image: float32 (n, 3, H, W), bilinear samples; what is outside the image is 0 before the normalisation;
        affines: float64 (n, 6): x = a[0] u + a[1] v + a[2], y = a[3] u + a[4] v + a[5] for column u and row v;
        boxes: float32 (n, 4); box_scores: float32 (n), 1 where none are given; image_size: int64 (2).

        Points are in pixels, (0, 0) the centre of the first one. Raises ValueError as ImageProcessor does, and for
        boxes that are empty or no numbers.
        """
        given = {"image": raw_input(image), "image.boxes": boxes, "image.box_scores": box_scores}
        given["image.affines"] = affines
        return self.run_named({name: value for name, value in given.items() if value is not None})


class PoseEstimation(PluginProcessor):
    """Heat maps of crops to the keypoints of each person in the original image.

    Options: names, skeleton and flip_pairs (pairs of indices), stride (4), keypoint_threshold (0.2), input ("image") and
    output ("heatmaps"); flip_test is for pipelines, whose model it runs a second time.
    """

    plugin = "vision"
    kind = "pose_estimation"
    head = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._output = str(options.get("output", "heatmaps"))

    def __call__(self, heatmaps: Any, *, flipped: Any = None, crops: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """heatmaps: float32 (n, K, h, w); flipped: of the mirrored crops, to be averaged with them. crops: what
        PersonCrop made; without it keypoints stay in pixels of the crop. Returns

        keypoints: float32 (n, K, 3), x, y, score; scores: float32 (n); boxes: float32 (n, 4); and all of it as "json".
        """
        inputs = {self._output: heatmaps}
        if flipped is not None:
            inputs["heatmaps_flipped"] = flipped
        if crops is not None:
            inputs.update({name: crops[name] for name in ("affines", "boxes", "box_scores")})
        return self.run_named(inputs)


class BottomUpPose(PluginProcessor):
    """Heat maps and displacements of a whole image to the keypoints of its people (DEKR, arXiv 2104.02300).

    Options: names and skeleton (pairs of indices), stride (4), center_threshold (0.01), nms_distance (0.05), max_people
    (30), heatmaps and displacements (names of the model's outputs).
    """

    plugin = "vision"
    kind = "bottom_up_pose"
    head = True

    def __call__(self, heatmaps: Any, displacements: Any, *, crops: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """heatmaps: float32 (1, K + 1, h, w), the last of centres; displacements: float32 (1, 2 K, h, w).

        crops: what PersonCrop made of the whole image; without it keypoints stay in pixels of the model's image.
        Returns what PoseEstimation does, best people first.
        """
        inputs = {"heatmaps": heatmaps, "displacements": displacements}
        if crops is not None:
            inputs["affines"] = crops["affines"]
        return self.run_named(inputs)

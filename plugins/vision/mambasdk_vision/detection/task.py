"""Object detection for the Trainer: augmented images, the model's own loss, held-out AP. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mambasdk.training import Batches
from mambasdk.training.distributed import rank
from mambasdk_vision.detection.augmentation import BoxAugmentation
from mambasdk_vision.detection.boxes import corners
from mambasdk_vision.detection.metrics import ImageBoxes, coco_scores
from mambasdk_vision.detection.pixels import LabelledPixels
from mambasdk_vision.detector import Detector
from mambasdk_vision.processors import ObjectDetection

# Of validation, as YOLO does it: nearly every box, and every class of it.
VALIDATION: dict[str, Any] = {"score_threshold": 0.001, "iou_threshold": 0.7, "multi_label": True}


class ObjectDetectionTask:
    """The model's loss on augmented images; metrics `AP`, `AP50` and `AP75` of held-out ones.

    model: a Detector. train, held_out: images with boxes. entry: the processor entry of the package to be, whose
    normalisation is used. batch, seed: of the training order. close_mosaic: the step from which there is no mosaic and
    no mixup, None for never.
    """

    unit = "images"
    goals: ClassVar = {"AP": "max", "AP50": "max", "AP75": "max"}

    def __init__(
        self,
        model: Detector,
        train: LabelledPixels,
        held_out: LabelledPixels,
        entry: Mapping[str, Any],
        *,
        batch: int,
        seed: int = 0,
        augmentation: BoxAugmentation | None = None,
        close_mosaic: int | None = None,
    ) -> None:
        self.model = model
        self._train, self._held_out = train, held_out
        classes = len(train.data.classes)
        self.data = (
            f"{len(train):,} images with {train.data.objects:,} objects, {len(held_out):,} held out, {classes} classes"
        )
        self._batches = Batches(len(train), batch, seed)
        self._seed = seed
        self._augmentation = augmentation or BoxAugmentation()
        self._close_mosaic = close_mosaic
        self._fill = int(entry.get("fill", 114))
        first = next(model.parameters())
        self._device, self._dtype = first.device, first.dtype
        self._mean = torch.tensor(entry.get("mean", [0.0] * 3), device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(entry.get("std", [1.0] * 3), device=self._device).view(1, 3, 1, 1)

    def batch(self, step: int) -> tuple[Any, list[Any]]:
        """uint8 (N, H, W, 3), and (n, 5) of each image: class, centre, width and height as shares of the image."""
        late = self._close_mosaic is not None and step >= self._close_mosaic
        augmentation = self._augmentation.without_mosaic() if late else self._augmentation
        return augmentation(self._train, self._batches.at(step), self._seed, step, rank=rank(), fill=self._fill)

    def loss(self, step: int) -> tuple[Tensor, int]:
        """(the model's loss of the step's batch, images in it)."""
        images, boxes = self.batch(step)
        targets = [torch.from_numpy(rows).float().to(self._device) for rows in boxes]
        return self.model.loss(self.model(self._normalised(images)), targets)["loss"], len(images)

    def sample_inputs(self) -> tuple[dict[str, Tensor], int]:
        """The image of the first row of a step."""
        return {"image": self._normalised(self._train.letterboxed(np.zeros(1, np.int64)))}, 1

    def evaluate(self) -> dict[str, float]:
        """COCO's AP, AP50 and AP75 of the held-out images."""
        summary = coco_scores(self.predict(), len(self._held_out.data.classes)).summary()
        return {name: summary[name] for name in self.goals}

    def predict(self, **options: Any) -> list[ImageBoxes]:
        """The boxes of the held-out images, annotated and found, in pixels of the files.

        options: of the head `object_detection`, over those of validation.
        """
        head = ObjectDetection(box_format="cxcywh", **{**VALIDATION, **options})
        made = []
        for start in range(0, len(self._held_out), self._batches.batch):
            indices = np.arange(start, min(start + self._batches.batch, len(self._held_out)))
            image = self._normalised(self._held_out.letterboxed(indices))
            outputs = self.model.native_outputs({"image": image})
            boxes, scores = (outputs[name].float().cpu().contiguous().numpy() for name in ("boxes", "scores"))
            for place, index in enumerate(indices.tolist()):
                found = head.run(boxes=boxes[place], scores=scores[place], **self._held_out.geometry(index))
                made.append(self._of(index, found))
        return made

    def _of(self, index: int, found: Mapping[str, Any]) -> ImageBoxes:
        image = self._held_out.data.images[index]
        height, width = image.size
        return ImageBoxes(
            corners(image.boxes) * (width, height, width, height),
            image.classes,
            np.asarray(found["boxes"], np.float64).reshape(-1, 4),
            np.asarray(found["classes"], np.int64),
            np.asarray(found["scores"], np.float64),
            image.crowd,
            image.difficult,
            image.areas,
        )

    def _normalised(self, images: Any) -> Tensor:
        """uint8 (N, H, W, 3) to (N, 3, H, W)."""
        samples = torch.from_numpy(np.ascontiguousarray(images)).to(self._device).permute(0, 3, 1, 2).float() / 255
        return ((samples - self._mean) / self._std).to(self._dtype)

"""Semantic segmentation for the Trainer: cross entropy of pixels, held-out mIoU. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.training import Batches
from mambasdk.training.distributed import rank
from mambasdk_vision.processors import SemanticSegmentation
from mambasdk_vision.segmentation.augmentation import SceneAugmentation
from mambasdk_vision.segmentation.data import IGNORE, SegmentedImages
from mambasdk_vision.segmentation.metrics import Counts, SegmentationScores, mask_confusion


class SegmentationTask:
    """Cross entropy of pixels with a class, of the model's head and of its auxiliary heads by their weights.

    Metrics on held-out images are those of the package: logits at the size of the original mask, by the native head.
    model: a `mambasdk_vision.model.Segmenter`. labels: names of its classes. entry: the processor entry of the package
    to be, whose size and normalisation are used. batch, seed: of the training order.
    """

    unit = "images"
    goals: ClassVar = {"mIoU": "max", "pixel_accuracy": "max", "mean_accuracy": "max", "loss": "min"}

    def __init__(
        self,
        model: nn.Module,
        train: SegmentedImages,
        held_out: SegmentedImages,
        labels: Sequence[str],
        entry: Mapping[str, Any],
        *,
        batch: int,
        seed: int = 0,
        augmentation: SceneAugmentation | None = None,
    ) -> None:
        self.model: Any = model
        self.data = f"{len(train):,} images, {len(held_out):,} held out, {len(labels)} classes"
        self.matrix: Counts = np.zeros((len(labels),) * 2, np.int64)  # of the last evaluation
        self._train, self._held_out, self._labels = train, held_out, list(labels)
        self._batches = Batches(len(train), batch, seed)
        self._seed = seed
        self._augmentation = augmentation or SceneAugmentation()
        self._head = SemanticSegmentation()
        first = next(model.parameters())
        self._device, self._dtype = first.device, first.dtype
        self._mean = torch.tensor(entry.get("mean", [0.0] * 3), device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(entry.get("std", [1.0] * 3), device=self._device).view(1, 3, 1, 1)

    def loss(self, step: int) -> tuple[Tensor, int]:
        """(weighted sum of the cross entropies of the step's batch, images in it)."""
        indices = self._batches.at(step)
        images, masks = self._augmentation(*self._tensors(self._train, indices), self._seed, step, rank())
        found = self.model.training_logits(images)
        losses = [weight * _cross_entropy(logits, masks) for weight, logits in found]
        return torch.stack(losses).sum(), len(indices)

    def sample_inputs(self) -> tuple[dict[str, Tensor], int]:
        """The images of the first row of a step."""
        return {"image": self._tensors(self._train, np.zeros(1, np.int64))[0]}, 1

    def evaluate(self) -> dict[str, float]:
        """mIoU, accuracy of pixels, its mean over classes, cross entropy, and the IoU of every class that occurs."""
        losses, sizes = [], []
        self.matrix = np.zeros_like(self.matrix)
        for indices, images, masks, logits in self._answers():
            losses.append(float(_cross_entropy(logits, masks)))
            sizes.append(int((masks != IGNORE).sum()))
            for row, index in enumerate(indices.tolist()):
                found = self._class_map(images[row : row + 1], logits[row : row + 1], index)
                self.matrix += mask_confusion(self._held_out.mask(index), found, len(self._labels), IGNORE)
        scores = SegmentationScores.of(self.matrix)
        of_classes = {f"IoU {row['class']}": row["iou"] for row in scores.rows(self._labels)}
        loss = float(np.average(losses, weights=sizes)) if sum(sizes) else float("nan")
        named = {name: value for name, value in of_classes.items() if isinstance(value, float)}
        return {**scores.metrics(), "loss": loss, **named}

    def _answers(self) -> Iterator[tuple[npt.NDArray[np.int64], Tensor, Tensor, Tensor]]:
        count, batch = len(self._held_out), self._batches.batch
        for start in range(0, count, batch):
            indices = np.arange(start, min(start + batch, count))
            images, masks = self._tensors(self._held_out, indices)
            yield indices, images, masks, self.model(images)

    def _class_map(self, image: Tensor, logits: Tensor, index: int) -> npt.NDArray[Any]:
        """(H, W) of the original image."""
        given = {"image": image.float().cpu().numpy(), **self._held_out.images.geometry(index)}
        found = self._head(logits.float().cpu().numpy(), image=given)["class_map"]
        return np.asarray(found)

    def _tensors(self, part: SegmentedImages, indices: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images (n, 3, H, W), normalised, and masks int64 (n, H, W)."""
        images, masks = part.take(indices)
        samples = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float() / 255
        normalised = ((samples - self._mean) / self._std).to(self._dtype)
        return normalised, torch.from_numpy(masks).to(self._device).long()


def _cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean over the pixels that have a class, 0 where there is none; logits (B, C, h, w), masks (B, H, W)."""
    full = functional.interpolate(logits.float(), size=masks.shape[1:], mode="bilinear", align_corners=False)
    total = functional.cross_entropy(full, masks, ignore_index=IGNORE, reduction="sum")
    return total / (masks != IGNORE).sum().clamp(min=1)

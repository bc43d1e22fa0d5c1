"""Image classification for the Trainer: batches of pixels, cross entropy, held-out accuracy. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.training import Batches
from mambasdk.training.distributed import rank
from mambasdk_vision.classification.augmentation import Augmentation
from mambasdk_vision.classification.folder import ClassFolders, Pixels


class ImageClassificationTask:
    """Cross entropy on augmented images; metrics `accuracy` and `loss` on held-out ones.

    model: image (B, 3, H, W) to logits (B, classes). train, held_out: images by class. entry: the processor entry of
    the package to be, whose size and normalisation are used. batch, seed: of the training order.
    label_smoothing: share of the target spread over all classes.
    """

    unit = "images"
    goals: ClassVar = {"accuracy": "max", "loss": "min"}

    def __init__(
        self,
        model: nn.Module,
        train: ClassFolders | Pixels,
        held_out: ClassFolders | Pixels,
        entry: Mapping[str, Any],
        *,
        batch: int,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.model = model
        self._train, self._held_out = (
            part if isinstance(part, Pixels) else Pixels(part, entry) for part in (train, held_out)
        )
        counts = len(self._train.data), len(self._held_out.data)
        self.data = f"{counts[0]:,} images, {counts[1]:,} held out, {len(self._train.data.classes)} classes"
        self._batches = Batches(counts[0], batch, seed)
        self._seed = seed
        self._augmentation = augmentation or Augmentation()
        self._label_smoothing = label_smoothing
        first = next(model.parameters())
        self._device, self._dtype = first.device, first.dtype
        self._mean = torch.tensor(entry.get("mean", [0.0] * 3), device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(entry.get("std", [1.0] * 3), device=self._device).view(1, 3, 1, 1)

    def loss(self, step: int) -> tuple[Tensor, int]:
        """(cross entropy of the step's batch, images in it)."""
        indices = self._batches.at(step)
        images = self._augmentation(self._train.take(indices), self._seed, step, rank())
        logits = self.model(self._normalised(images))
        labels = torch.from_numpy(self._train.data.labels[indices]).to(self._device)
        return functional.cross_entropy(logits, labels, label_smoothing=self._label_smoothing), len(indices)

    def sample_inputs(self) -> tuple[dict[str, Tensor], int]:
        """The images of the first row of a step."""
        return {"image": self._normalised(self._train.take(np.zeros(1, np.int64)))}, 1

    def evaluate(self) -> dict[str, float]:
        """Share of the held-out images whose best label is right, and their mean cross entropy."""
        logits = self.logits()
        labels = torch.from_numpy(self._held_out.data.labels)
        return {
            "accuracy": float((logits.argmax(1) == labels).double().mean()),
            "loss": float(functional.cross_entropy(logits, labels)),
        }

    def logits(self) -> Tensor:
        """(images held out, classes), float32 on the CPU."""
        count = len(self._held_out.data)
        parts = [
            self.model(self._normalised(self._held_out.take(np.arange(start, min(start + self._batches.batch, count)))))
            for start in range(0, count, self._batches.batch)
        ]
        return torch.cat([part.float().cpu() for part in parts])

    def _normalised(self, images: Any) -> Tensor:
        """uint8 (N, H, W, 3) to float32 (N, 3, H, W)."""
        samples = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float() / 255
        return ((samples - self._mean) / self._std).to(self._dtype)

"""Segmentation of patches as a training task, and the trainer with the poly schedule. Needs torch."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.training import Trainer, TrainingOptions, distributed
from mambasdk_medical.data.labels import Labels
from mambasdk_medical.preprocessing.store import PreparedCase
from mambasdk_medical.training.augmentation import Augmentation
from mambasdk_medical.training.loss import DiceCrossEntropy, supervised_loss
from mambasdk_medical.training.patches import FOREGROUND, PatchSampler
from mambasdk_medical.training.scaling import GradientScaling

_HELD_OUT, _TRAINED = 1, 0  # what a seed is for
_MEMORY = 0.9  # share of the old value that the average of pseudo Dice keeps
POWER = 0.9  # of the poly schedule


class MedicalSegmentation:
    """Dice and cross entropy on patches of prepared cases. model: a MedicalSegmenter.

    Held-out metrics are of the same random patches each time: `dice`, pooled over them (nnU-Net's pseudo Dice), its
    moving average `ema_dice`, which the best weights go by, `loss`, and the pooled Dice of each class.
    amp: "float16" computes the model in it, with scaled gradients; other types are the trainer's. foreground: share of
    patches around some class. validation: patches to measure on.
    """

    unit = "patches"
    goals: ClassVar = {"ema_dice": "max", "dice": "max", "loss": "min"}

    def __init__(
        self,
        model: Any,
        train: Sequence[PreparedCase],
        held_out: Sequence[PreparedCase],
        labels: Labels,
        *,
        batch: int,
        seed: int = 0,
        batch_dice: bool = False,
        augmentation: Augmentation | None = None,
        foreground: float = FOREGROUND,
        validation: int = 50,
        amp: str | None = None,
    ) -> None:
        self.model = model
        self.labels = labels
        self.data = f"{len(train)} cases, {len(held_out)} held out"
        patch = tuple(model.config.patch_size)
        self._train = PatchSampler(train, patch, labels, foreground=foreground)
        self._held_out = PatchSampler(held_out, patch, labels, foreground=foreground)
        self._loss = DiceCrossEntropy(labels, batch_dice=batch_dice)
        self._augmentation = augmentation
        self._batch, self._seed, self._validation = batch, seed, validation
        self._device = next(self.model.parameters()).device
        self._average: float | None = None
        self._half = amp == "float16"
        self.scaling = GradientScaling(self.model) if self._half else None

    def loss(self, step: int) -> tuple[Tensor, int]:
        """The loss of a step's patches, and their number."""
        image, target = self._patches(step)
        with self._autocast():
            outputs = self.model.training_outputs(image)
        if self.scaling is not None:
            outputs = [self.scaling.scaled(logits) for logits in outputs]
        return supervised_loss(self._loss, outputs, target), len(image)

    def sample_inputs(self) -> tuple[dict[str, Tensor], int]:
        """One patch of a step."""
        case = self._train.cases[0]
        image, _ = self._train.draw(np.random.default_rng(self._seed), case, forced=False)
        return {"image": torch.from_numpy(image)[None].to(self._device)}, 1

    def evaluate(self) -> dict[str, float]:
        """See the class."""
        channels = len(self.labels.foreground)
        counts = np.zeros((3, channels))  # overlap, found, truth
        losses = []
        for first in range(0, self._validation, self._batch):
            rows = range(first, min(first + self._batch, self._validation))
            image, target = self._drawn([self._validation_patch(row) for row in rows])
            with self._autocast():
                logits = self.model(image)
            logits = logits.float()
            losses += [self._loss(logits, target).item()] * len(rows)
            counts += self._counts(logits, target)
        seen = counts[1] + counts[2] > 0
        of_classes = np.where(seen, 2 * counts[0] / np.maximum(counts[1] + counts[2], 1), np.nan)
        dice = float(of_classes[seen].mean()) if seen.any() else 0.0
        self._average = dice if self._average is None else _MEMORY * self._average + (1 - _MEMORY) * dice
        named = {
            f"dice {name}": float(value)
            for name, value in zip(self.labels.foreground, of_classes, strict=True)
            if not np.isnan(value)
        }
        return {"dice": dice, "ema_dice": self._average, "loss": float(np.mean(losses)), **named}

    def state_dict(self) -> dict[str, Any]:
        """The moving average, and the scale of gradients."""
        scaling = None if self.scaling is None else self.scaling.state_dict()
        return {"ema_dice": self._average, "scaling": scaling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        try:
            self._average = state["ema_dice"]
            if self.scaling is not None:
                self.scaling.load_state_dict(state["scaling"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"malformed checkpoint: {error}", where="the task's state") from error

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if not self._half:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, torch.float16)

    def _patches(self, step: int) -> tuple[Tensor, Tensor]:
        made = []
        for row in range(self._batch):
            seed = (self._seed, _TRAINED, step, distributed.rank(), row)
            chance = np.random.default_rng(seed)
            case = self._train.cases[int(chance.integers(len(self._train.cases)))]
            forced = self._train.is_forced(row, self._batch)
            if self._augmentation is None:
                image, labels = self._train.draw(chance, case, forced=forced)
                made.append((torch.from_numpy(image), torch.from_numpy(labels)))
            else:
                cut = self._train.draw(chance, case, forced=forced, size=self._augmentation.cut_size)
                made.append(self._augmentation(*cut, (*seed, 1)))
        return self._drawn(made)

    def _validation_patch(self, row: int) -> tuple[Tensor, Tensor]:
        chance = np.random.default_rng((self._seed, _HELD_OUT, row))
        case = self._held_out.cases[row % len(self._held_out.cases)]
        forced = self._held_out.is_forced(row % self._batch, self._batch)
        image, labels = self._held_out.draw(chance, case, forced=forced)
        return torch.from_numpy(image), torch.from_numpy(labels)

    def _drawn(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        images = torch.stack([image for image, _ in pairs]).to(self._device)
        return images, torch.stack([labels for _, labels in pairs]).to(self._device).long()

    def _counts(self, logits: Tensor, target: Tensor) -> np.ndarray[Any, Any]:
        """Overlap, found and true voxels of each class."""
        known = torch.ones_like(target, dtype=torch.bool)
        if self.labels.ignore is not None:
            known = target != self.labels.ignore
        decided = logits > 0 if self.labels.has_regions else logits.argmax(1)
        rows = []
        for channel, values in enumerate(self.labels.foreground.values()):
            truth = torch.isin(target, torch.tensor(values, device=target.device)) & known
            found = (decided[:, channel] if self.labels.has_regions else decided == values[0]) & known
            rows.append([int((truth & found).sum()), int(found.sum()), int(truth.sum())])
        counts: np.ndarray[Any, Any] = np.array(rows, np.float64).T
        return counts


class MedicalTrainer(Trainer):
    """A Trainer whose learning rate falls by the poly schedule, lr (1 - share)^0.9, and which may scale gradients."""

    def __init__(self, model: Any, task: MedicalSegmentation, options: TrainingOptions) -> None:
        super().__init__(model, task, options)
        if task.scaling is not None:
            task.scaling.watch(self._optimizer)

    def learning_rate(self, share: float) -> float:
        """The rate at this share of the run, after a linear warm-up where there is one."""
        options = self.options
        if share < options.warmup:
            return super().learning_rate(share)
        done = (share - options.warmup) / (1 - options.warmup)
        return float(options.lr * max(1 - done, 0.0) ** POWER)

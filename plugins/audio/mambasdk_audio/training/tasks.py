"""What a run learns: labels of clips, or hidden patches of clips without labels. Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import Batches, distributed
from mambasdk_audio.families.ssamba import Ssamba, sample_mask
from mambasdk_audio.training.augmentation import MIXUP_CONCENTRATION, Array, Augmentation, augmented, mixed
from mambasdk_audio.training.metrics import accuracy, mean_average_precision
from mambasdk_audio.training.spectrograms import Spectrograms

Loss = Literal["ce", "bce"]
Objective = Literal["joint", "discriminative", "generative"]
_GENERATIVE_WEIGHT = 10.0  # of the joint loss (arXiv 2405.11831)
_AUGMENTATION, _MASKS = 1, 2  # streams of random numbers


class ClassificationTask:
    """Clips to labels. loss "ce": one label each; "bce": any number, each by itself (upstream's for tagging)."""

    unit = "clips"
    goals: dict[str, str]

    def __init__(
        self,
        model: Ssamba,
        train: Spectrograms,
        held_out: Spectrograms,
        labels: Sequence[str],
        *,
        batch: int,
        loss: Loss = "ce",
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.labels = list(labels)
        self.goals = {"mean_average_precision": "max"} if loss == "bce" else {}
        self.goals |= {"accuracy": "max", "loss": "min"}
        self.data = f"{len(train):,} clips, {len(held_out):,} held out, {len(labels)} labels"
        self._loss = loss
        self._train, self._held_out = train, held_out
        self._targets = self._hot(train), self._hot(held_out)  # (clips, C) each
        self._augmentation = augmentation or Augmentation()
        self._batches = Batches(len(train), batch, seed)
        self._seed = seed
        first = next(model.parameters())
        self._device, self._dtype = first.device, first.dtype

    def loss(self, step: int) -> tuple[Tensor, int]:
        """Cross entropy of the step's clips, in nats."""
        indices = self._batches.at(step)
        rng = np.random.default_rng((self._seed, step, _AUGMENTATION, *_rank()))
        pairs = [self._example(int(index), rng) for index in indices]
        x = torch.from_numpy(np.stack([x for x, _ in pairs])).to(self._device)
        targets = torch.from_numpy(np.stack([target for _, target in pairs])).to(self._device)
        return self._entropy(self._logits(x), targets), len(indices)

    def evaluate(self) -> dict[str, float]:
        """{"loss", "accuracy"}, with "bce" {"loss", "mean_average_precision"} too; nothing without held-out clips."""
        if not len(self._held_out):
            return {}
        logits = self.held_out_logits()
        targets = torch.from_numpy(self._targets[1])
        found = {"loss": float(self._entropy(logits, targets)), "accuracy": accuracy(logits.numpy(), targets.numpy())}
        if self._loss == "bce":
            found["mean_average_precision"] = mean_average_precision(logits.numpy(), targets.numpy())
        return found

    def held_out_logits(self) -> Tensor:
        """(held-out clips, C), float32 on the CPU."""
        parts = [self._logits(x) for x in batches_of(self._held_out, self._batches.batch, self._device)]
        return torch.cat(parts).float().cpu()

    def held_out_targets(self) -> npt.NDArray[np.float32]:
        """(held-out clips, C), 1 where a clip has the label."""
        return self._targets[1]

    def _logits(self, x: Tensor) -> Tensor:
        """(B, C); logits of every second are averaged over the clip."""
        logits: Tensor = self.model(x.to(self._dtype))
        return logits.mean(1) if logits.ndim == 3 else logits

    def _entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self._loss == "bce":
            return functional.binary_cross_entropy_with_logits(logits.float(), targets)
        return functional.cross_entropy(logits.float(), targets)

    def _example(self, index: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """(x (T, F), target (C)) of a training clip, augmented."""
        settings, target = self._augmentation, self._targets[0][index]
        if rng.random() < settings.mixup:
            other = int(rng.integers(len(self._train)))
            share = float(rng.beta(MIXUP_CONCENTRATION, MIXUP_CONCENTRATION))
            samples = mixed(self._train.samples(index), self._train.samples(other), share)
            x = self._train.of_samples(samples, self._train.clips[index].path)
            target = share * target + (1 - share) * self._targets[0][other]
        else:
            x = self._train[index]
        return augmented(x, settings, self._train.silence, rng), target.astype(np.float32)

    def _hot(self, clips: Spectrograms) -> npt.NDArray[np.float32]:
        """(clips, C), 1 where a clip has the label."""
        column = {label: index for index, label in enumerate(self.labels)}
        hot = np.zeros((len(clips), len(self.labels)), np.float32)
        for row, clip in enumerate(clips.clips):
            for label in clip.labels:
                if label not in column:
                    raise InvalidArgumentError(
                        f"label {label!r} is unknown", where=str(clip.path), expected=", ".join(self.labels[:20])
                    )
                hot[row, column[label]] = 1
            if self._loss == "ce" and len(clip.labels) != 1:
                raise InvalidArgumentError(
                    f"{len(clip.labels)} labels", where=str(clip.path), expected="one", way_out="use the loss bce"
                )
        return hot


class PretrainingTask:
    """Hidden patches of clips: which is which ("discriminative"), what is in them ("generative"), or both ("joint")."""

    unit = "clips"
    goals: ClassVar = {"contrastive_loss": "min", "masked_accuracy": "max", "pixel_error": "min"}

    def __init__(
        self,
        model: Ssamba,
        train: Spectrograms,
        held_out: Spectrograms,
        *,
        batch: int,
        hidden: int,
        objective: Objective = "joint",
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        """hidden: patches to hide in each clip."""
        self.model = model
        self._objective = objective
        self.data = f"{len(train):,} clips, {len(held_out):,} held out"
        self._hidden = hidden
        self._train, self._held_out = train, held_out
        self._augmentation = augmentation or Augmentation()
        self._batches = Batches(len(train), batch, seed)
        self._seed = seed
        self._device = next(model.parameters()).device

    def loss(self, step: int) -> tuple[Tensor, int]:
        """L_d, L_g, or L_d + 10 L_g with two forwards and two different masks (arXiv 2405.11831)."""
        indices = self._batches.at(step)
        rng = np.random.default_rng((self._seed, step, _AUGMENTATION, *_rank()))
        clips = [augmented(self._train[int(i)], self._augmentation, self._train.silence, rng) for i in indices]
        x = torch.from_numpy(np.stack(clips)).to(self._device)
        mask = self._masks(len(x), (self._seed, step, _MASKS, *_rank()))
        losses = []
        if self._objective != "generative":
            losses.append(self.model.discriminative(x, mask())[0])
        if self._objective != "discriminative":
            weight = _GENERATIVE_WEIGHT if self._objective == "joint" else 1.0
            losses.append(weight * self.model.generative(x, mask()))
        return torch.stack(losses).sum(), len(indices)

    def evaluate(self) -> dict[str, float]:
        """{"masked_accuracy", "contrastive_loss", "pixel_error"} on the held-out clips, always with the same masks."""
        sums: dict[str, float] = {}
        for number, x in enumerate(batches_of(self._held_out, self._batches.batch, self._device)):
            mask = self._masks(len(x), (self._seed, number))
            loss, right = self.model.discriminative(x, mask())
            error = self.model.generative(x, mask())
            for name, value in (("masked_accuracy", right), ("contrastive_loss", loss), ("pixel_error", error)):
                sums[name] = sums.get(name, 0.0) + float(value) * len(x)
        return {name: value / len(self._held_out) for name, value in sums.items()}

    def _masks(self, batch: int, seed: tuple[int, ...]) -> Callable[[], Tensor]:
        number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
        generator = torch.Generator().manual_seed(number)
        grid = self.model.config.grid
        return lambda: sample_mask(batch, grid, self._hidden, generator).to(self._device)


def _rank() -> tuple[int, ...]:
    """What tells the random numbers of this process from those of others that train with it."""
    return (distributed.rank(),) if distributed.rank() else ()


def batches_of(clips: Spectrograms, batch: int, device: Any) -> Iterator[Tensor]:
    """All clips in their order, (B, T, F) at a time."""
    for first in range(0, len(clips), batch):
        part = [clips[index] for index in range(first, min(first + batch, len(clips)))]
        yield torch.from_numpy(np.stack(part)).to(device)

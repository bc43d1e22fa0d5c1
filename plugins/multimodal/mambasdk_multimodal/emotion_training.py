"""What models of emotions learn: cross entropy of the fused and of each modality's labels, weighted F1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import ClassScores, confusion_matrix
from mambasdk.training import Batches
from mambasdk_multimodal.conversations import Conversation, collate


def classes_of(labels: Sequence[str], conversations: Sequence[Conversation]) -> dict[str, int]:
    """Class by label: names, and their numbers where the data have numbers for the names."""
    numbers = all(label is None or label.isdigit() for each in conversations for label in each.labels)
    return {str(i) if numbers else label: i for i, label in enumerate(labels)}


def tensors(batch: dict[str, Any], device: Any = "cpu") -> tuple[dict[str, Any], Tensor]:
    """(keyword arguments of a model's forward, labels (B, L)) of what `collate` gives."""
    moved = {name: torch.from_numpy(value).to(device) for name, value in batch.items() if name != "features"}
    labels = moved.pop("labels")
    features = {name: torch.from_numpy(value).to(device) for name, value in batch["features"].items()}
    return {"features": features, **moved}, labels


def scores_of(targets: Any, predicted: Any, classes: int) -> dict[str, float]:
    """weighted_f1 (each class by its share), accuracy, macro_f1 (over the classes that occur). Integers (N)."""
    matrix = confusion_matrix(targets, predicted, classes)
    found = ClassScores.of(matrix)
    support = matrix.sum(1)
    total = max(int(support.sum()), 1)
    return {
        "weighted_f1": float((found.f1 * support).sum() / total),
        "accuracy": float(np.diag(matrix).sum() / total),
        "macro_f1": float(found.f1[support > 0].mean()) if (support > 0).any() else 0.0,
    }


class EmotionTask:
    """A Task (mambasdk.training) of conversations, whole ones, padded to the longest of a batch.

    labels: names of the classes. class_weights: of a class N / (C times its utterances), so that all weigh the same;
    one that never occurs weighs nothing.
    """

    unit = "utterances"
    goals = {"weighted_f1": "max", "accuracy": "max", "macro_f1": "max"}  # noqa: RUF012

    def __init__(
        self,
        model: Any,
        train: Sequence[Conversation],
        held_out: Sequence[Conversation],
        labels: Sequence[str],
        *,
        batch: int = 16,
        seed: int = 0,
        class_weights: bool = False,
        device: Any = "cpu",
    ) -> None:
        labelled = [each for each in train if any(label is not None for label in each.labels)]
        if not labelled:
            raise InvalidArgumentError("no conversation with labels to train on", where="EmotionTask")
        self.model, self.device = model, device
        self.dims = dict(zip(model.config.modalities, model.config.in_dims, strict=True))
        self.classes = classes_of(labels, [*train, *held_out])
        self.data = f"{len(labelled):,} conversations, {sum(map(len, labelled)):,} utterances" + (
            f", {len(held_out):,} conversations held out" if held_out else ""
        )
        self._train, self._held_out, self._batch = labelled, list(held_out), batch
        self._batches = Batches(len(labelled), min(batch, len(labelled)), seed)
        self._weights = self._class_weights() if class_weights else None

    def loss(self, step: int) -> tuple[Tensor, int]:
        """Loss of a batch of conversations; units are utterances with a label."""
        given, labels = self._given([self._train[int(i)] for i in self._batches.at(step)])
        return self.model.loss(self.model(**given), labels, self._weights), int((labels >= 0).sum())

    def evaluate(self) -> dict[str, float]:
        """Scores over all that is held out."""
        targets, logits, _ = self.outputs(self._held_out)
        return scores_of(targets, logits.argmax(-1), len(self.classes)) if len(targets) else {}

    def outputs(self, conversations: Sequence[Conversation], absent: Sequence[str] = ()) -> tuple[Any, Any, Any]:
        """(classes (N), logits (N, C), weights (N, M)) of the utterances that have a label. absent: as of `collate`."""
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for given, labels in self.batches(conversations, absent):
            out = self.model(**given)
            counted = labels >= 0
            parts.append((labels[counted], out.logits[counted].float(), out.weights[counted]))
        if not parts:
            return np.zeros(0, np.int64), np.zeros((0, len(self.classes)), np.float32), np.zeros((0, len(self.dims)))
        return tuple(torch.cat(each).detach().cpu().numpy() for each in zip(*parts, strict=True))  # type: ignore[return-value]

    def batches(
        self, conversations: Sequence[Conversation], absent: Sequence[str] = ()
    ) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """Arguments of the model and labels, as `fit_ridge` takes them."""
        for start in range(0, len(conversations), self._batch):
            yield self._given(conversations[start : start + self._batch], absent)

    def _given(self, chosen: Sequence[Conversation], absent: Sequence[str] = ()) -> tuple[dict[str, Any], Tensor]:
        return tensors(collate(chosen, self.dims, self.classes, absent), self.device)

    def _class_weights(self) -> Tensor:
        found = [self.classes[label] for each in self._train for label in each.labels if label is not None]
        counts = torch.bincount(torch.tensor(found), minlength=len(self.classes)).float()
        return torch.where(counts > 0, counts.sum() / (len(counts) * counts), 0.0).to(self.device)


def split_conversations(
    conversations: Sequence[Conversation], held_out: float, seed: int
) -> tuple[list[Conversation], list[Conversation]]:
    """Whole conversations at random: the share `held_out` (at least one of two or more) to evaluate on."""
    order = np.random.default_rng(seed).permutation(len(conversations))
    count = min(max(1, round(held_out * len(order))), len(order) - 1) if held_out > 0 else 0
    return [conversations[i] for i in sorted(order[count:])], [conversations[i] for i in sorted(order[:count])]

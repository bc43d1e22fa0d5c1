"""Motion prediction as a training task, and the paper's schedule (arXiv 2408.09178)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mambasdk.training import Batches, Trainer, TrainingOptions
from mambasdk_tracking.families.mambatrack.model import MotionPredictor, motion_loss
from mambasdk_tracking.mot import Floats
from mambasdk_tracking.windows import Windows, centre_error, paired_iou

_WARMUP_STEPS = 4000  # of the paper's schedule


class MotionPrediction:
    """The task of a motion predictor, for mambasdk.training.Trainer: the next delta of windows, by smooth L1.

    Metrics on held-out tracks: `iou` and `centre_error` (in heights) of the predicted box, `loss`.
    """

    unit = "windows"
    goals: ClassVar = {"iou": "max", "centre_error": "min", "loss": "min"}

    def __init__(
        self, model: MotionPredictor, train: Windows, held_out: Windows, *, batch: int = 64, seed: int = 0
    ) -> None:
        self.model = model
        self.held_out = held_out
        self.data = f"{len(train):,} windows of tracks, {len(held_out):,} held out"
        self._device = next(model.parameters()).device
        self._deltas = torch.from_numpy(train.deltas)
        self._target = torch.from_numpy(train.target)
        self._batches = Batches(len(train), batch, seed)

    def loss(self, step: int) -> tuple[Tensor, int]:
        """Mean loss of the step's windows, and their number."""
        rows = torch.from_numpy(self._batches.at(step))
        deltas, target = self._deltas[rows].to(self._device), self._target[rows].to(self._device)
        return motion_loss(self.model(deltas).float(), target), len(rows)

    def evaluate(self) -> dict[str, float]:
        """Metrics of the held-out windows."""
        windows = self.held_out
        predicted = predict(self.model, windows)
        boxes = windows.boxes_from(predicted)
        loss = motion_loss(torch.from_numpy(predicted), torch.from_numpy(windows.target))
        return {
            "iou": float(paired_iou(boxes, windows.next).mean()),
            "centre_error": float(centre_error(boxes, windows.next).mean()),
            "loss": float(loss),
        }


@torch.no_grad()
def predict(model: MotionPredictor, windows: Windows, batch: int = 1024) -> Any:
    """The model's deltas for all windows, float32 (N, 4)."""
    device = next(model.parameters()).device
    parts = [
        model(torch.from_numpy(windows.deltas[start : start + batch]).to(device)).float().cpu()
        for start in range(0, len(windows), batch)
    ]
    return torch.cat(parts).numpy()


@torch.no_grad()
def rollout(model: MotionPredictor, boxes: Floats, image_size: tuple[float, float], steps: int) -> Floats:
    """Blind predictions (N, steps, 4) after boxes (N, M, 4): centre x, centre y, width, height in pixels."""
    device = next(model.parameters()).device
    made = model.rollout(torch.from_numpy(boxes).float().to(device), image_size, steps)
    result: Floats = made.cpu().numpy().astype(np.float64)
    return result


def paper_options(steps: int | None, minutes: float | None, **others: Any) -> TrainingOptions:
    """Adam with beta 0.9 and 0.98, no weight decay, batch 64; the learning rate is PaperTrainer's."""
    return TrainingOptions(
        steps=steps, minutes=minutes, **{"batch": 64, **others, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.98}
    )


class PaperTrainer(Trainer):
    """A Trainer with the paper's learning rate, `D^-0.5 min(step^-0.5, step 4000^-1.5)`, step from 1."""

    def learning_rate(self, share: float) -> float:
        """The rate of the step that comes; the share of the run does not matter."""
        del share
        step = self.result.steps + 1
        width: int = self.model.d_model  # type: ignore[assignment]
        return float(width**-0.5 * min(step**-0.5, step * _WARMUP_STEPS**-1.5))

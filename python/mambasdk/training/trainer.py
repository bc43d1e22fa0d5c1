"""The training loop: AdamW, warm-up and cosine, clipping, autocast, exact resumption. Needs torch."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.nn import parameter_groups
from mambasdk.training.bar import Bar
from mambasdk.training.options import TrainingOptions
from mambasdk.training.result import TrainingResult
from mambasdk.training.task import Task

_CHECKPOINT = "mambasdk-training-1"
_ENDS = ("steps", "minutes")  # what may differ in a run that goes on


class Trainer:
    """One training run of `model` on `task`. `run` may be called once, after `resume` where there is a checkpoint.

    The same model, task and options give the same bits, in one run or resumed, with evaluations or without (given
    torch's own determinism on the device, and an end in steps: `minutes` end where the clock says).
    """

    def __init__(self, model: nn.Module, task: Task, options: TrainingOptions) -> None:
        self.model = model
        self.task = task
        self.options = options
        self.result = TrainingResult()
        groups = [group for group in parameter_groups(model, options.weight_decay) if group["params"]]
        if not groups:
            raise InvalidArgumentError("no parameter of the model requires a gradient", where="training")
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._device = self._parameters[0].device
        self._optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=(options.beta1, options.beta2), fused=True)
        loss_unit: tuple[str, float] = getattr(task, "loss_unit", ("", 1.0))
        self._loss_unit, self._loss_size = loss_unit

    def run(
        self,
        *,
        evaluate_every: int = 0,
        evaluate_at: Sequence[float] = (),
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 0,
        progress: bool = True,
    ) -> TrainingResult:
        """Train to the end of the options; the model is in eval mode afterwards.

        evaluate_every, checkpoint_every: steps between evaluations and between checkpoints into `checkpoint`, 0 for
        never. evaluate_at: shares of the run (0 to 1), ascending, at which to evaluate too.
        """
        self.model.train()
        with Bar(self.result, self.task.unit, self._loss_unit, shown=progress) as bar:
            while (share := self.share_done()) < 1:
                self.step()
                bar.update(self.share_done())
                due = any(share < point <= self.share_done() for point in evaluate_at)
                if due or (evaluate_every and self.result.steps % evaluate_every == 0):
                    self.evaluate()
                if checkpoint and checkpoint_every and self.result.steps % checkpoint_every == 0:
                    self.save(checkpoint)
        self.model.eval()
        return self.result

    def step(self) -> float:
        """One step; its loss, in the task's loss unit. Raises InvalidArgumentError where it is not finite."""
        start = time.perf_counter()
        loss, units = self._step(self.result.steps, self.share_done())
        self.result.seconds += time.perf_counter() - start
        self.result.steps += 1
        self.result.units += units
        self.result.losses.append(loss / self._loss_size)
        return self.result.losses[-1]

    def evaluate(self) -> dict[str, float]:
        """The task's metrics now; also noted in the result."""
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            metrics = {name: float(value) for name, value in self.task.evaluate().items()}
        self.model.train(training)
        self.result.evaluations.append((self.result.steps, metrics))
        return metrics

    def share_done(self) -> float:
        """How much of the run lies behind, 0 to 1."""
        by_steps = self.result.steps / self.options.steps if self.options.steps else 0.0
        by_time = self.result.seconds / (60 * self.options.minutes) if self.options.minutes else 0.0
        return max(by_steps, by_time)

    def learning_rate(self, share: float) -> float:
        """Linear warm-up, then a cosine down to `final_lr` of the peak."""
        options = self.options
        if share < options.warmup:
            # Above zero from the start: the first step trains too.
            return options.lr * max(share / options.warmup, 0.02)
        angle = math.pi * (share - options.warmup) / (1 - options.warmup)
        return options.lr * (options.final_lr + (1 - options.final_lr) * (1 + math.cos(angle)) / 2)

    def _step(self, step: int, share: float) -> tuple[float, int]:
        """One step at this share of the run; (loss as the task gives it, units)."""
        options = self.options
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(share)
        self._optimizer.zero_grad(set_to_none=True)
        with _seeded(options.seed, step, self._device):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=options.autocast is not None):
                loss, units = self.task.loss(step)
            loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, options.clip)
        for name, value in (("loss", loss.item()), ("norm of the gradients", norm.item())):
            if not math.isfinite(value):
                raise InvalidArgumentError(
                    f"the {name} is {value} at step {step}",
                    where="training",
                    way_out="use a smaller learning rate, and look at the data of that step",
                )
        self._optimizer.step()
        return loss.item(), units

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint from which training goes on with the same bits; replaces the old one when it is whole."""
        keep = getattr(self.task, "state_dict", None)
        content = {
            "format": _CHECKPOINT,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "task": keep() if keep is not None else {},
            "unit": self.task.unit,
            "options": asdict(self.options),
            "result": asdict(self.result),
        }
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        torch.save(content, partial)
        os.replace(partial, target)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint of the same model, task and options (the end may differ).

        Raises CheckpointError for a file that is damaged or of another run; the model is as before then.
        """
        content = _read_checkpoint(path, self._device)
        ours, theirs = asdict(self.options), content["options"]
        if changed := [name for name in ours if name not in _ENDS and ours[name] != theirs.get(name)]:
            raise CheckpointError(
                f"trained with other options: {', '.join(f'{name} = {theirs.get(name)}' for name in changed)}",
                where=str(path),
            )
        if content["unit"] != self.task.unit:
            raise CheckpointError(
                "the checkpoint is of another task", where=str(path), expected=self.task.unit, got=content["unit"]
            )
        self._check_model(content["model"], str(path))
        take = getattr(self.task, "load_state_dict", None)
        if take is not None:
            take(content["task"])
        try:
            self._optimizer.load_state_dict(content["optimizer"])
        except ValueError as error:  # nothing is changed then
            raise CheckpointError(f"the checkpoint trained other parameters: {error}", where=str(path)) from error
        self.model.load_state_dict(content["model"])
        result = content["result"]
        evaluations = [(int(step), dict(metrics)) for step, metrics in result["evaluations"]]
        self.result = TrainingResult(**{**result, "evaluations": evaluations})

    def _check_model(self, tensors: dict[str, Any], where: str) -> None:
        own = self.model.state_dict()
        wrong = sorted(own.keys() ^ tensors.keys())
        wrong += [name for name in own.keys() & tensors.keys() if _shape(own[name]) != _shape(tensors[name])]
        if wrong:
            raise CheckpointError(f"the checkpoint is of another model: {', '.join(wrong[:4])} differ", where=where)


def _shape(value: Any) -> Any:
    """Of a tensor; a module's extra state has none."""
    return getattr(value, "shape", None)


def _read_checkpoint(path: str | os.PathLike[str], device: torch.device) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"cannot be read as a training checkpoint: {reason}", where=str(path)) from error
    if not isinstance(content, dict) or content.get("format") != _CHECKPOINT:
        raise CheckpointError("not a training checkpoint", where=str(path), expected=_CHECKPOINT)
    return content


@contextlib.contextmanager
def _seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Torch's random numbers as a function of (seed, step); the generators go on as if nothing was drawn inside."""
    number = int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng([device] if device.type != "cpu" else [], device_type=_random_device(device)):
        torch.manual_seed(number)
        yield


def _random_device(device: torch.device) -> str:
    return "cuda" if device.type == "cpu" else device.type

"""The training loop: AdamW or SGD, averaged weights, many processes, exact resumption. Needs torch."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from mambasdk.errors import CheckpointError, InvalidArgumentError, MambaSDKError
from mambasdk.nn import parameter_groups
from mambasdk.training import distributed
from mambasdk.training.averaging import WeightAverage
from mambasdk.training.bar import Bar
from mambasdk.training.best import Best
from mambasdk.training.checkpoint import (
    check_best,
    check_model,
    check_optimizer,
    read_checkpoint,
    result_of,
    write_checkpoint,
)
from mambasdk.training.freezing import frozen_norms
from mambasdk.training.log import Log
from mambasdk.training.options import TrainingOptions
from mambasdk.training.result import TrainingResult
from mambasdk.training.task import Task

_ENDS = ("steps", "minutes")  # what may differ in a run that goes on
_LATER_OPTIONS = {name: getattr(TrainingOptions, name) for name in ("optimizer", "momentum", "ema")}
_RETRY_SECONDS = 60.0  # after a checkpoint that could not be written


class Trainer:
    """One training run of `model` on `task`. `run` may be called once, after `resume` where there is a checkpoint.

    The same model, task and options give the same bits, in one run or resumed, with evaluations or without (given
    torch's own determinism on the device, and an end in steps: `minutes` end where the clock says). Where a process
    group of torch.distributed runs, its processes train together: `options.batch` rows each, see `Task`.

    best: follows a metric, keeps the best weights, ends a run that gets no better; set it before `resume`.
    command: what else tells this run from another (plain values by name); a checkpoint with another one is refused.
    """

    def __init__(self, model: nn.Module, task: Task, options: TrainingOptions) -> None:
        self.model = model
        self.task = task
        self.options = options
        self.result = TrainingResult()
        self.best: Best | None = None
        self.command: dict[str, Any] = {}
        groups = [group for group in parameter_groups(model, options.weight_decay) if group["params"]]
        if not groups:
            raise InvalidArgumentError("no parameter of the model requires a gradient", where="training")
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._device = self._parameters[0].device
        self._optimizer = _optimizer(groups, options)
        self._frozen_norms = frozen_norms(model)
        loss_unit: tuple[str, float] = getattr(task, "loss_unit", ("", 1.0))
        self._loss_unit, self._loss_size = loss_unit
        self._stop: Callable[[], bool] = lambda: False
        self._stopped = False
        distributed.broadcast_model(model)
        self.average = WeightAverage(model, options.ema) if options.ema else None

    def run(
        self,
        *,
        evaluate_every: int = 0,
        evaluate_at: Sequence[float] = (),
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 0,
        checkpoint_minutes: float = 0.0,
        log: Sequence[Log] = (),
        stop: Callable[[], bool] | None = None,
        progress: bool = True,
    ) -> TrainingResult:
        """Train to the end of the options; the model is in eval mode afterwards.

        evaluate_every, checkpoint_every: steps between evaluations and between checkpoints into `checkpoint`, 0 for
        never; checkpoint_minutes: time between them. A checkpoint that cannot be written is warned of and tried again.
        evaluate_at: shares of the run (0 to 1), ascending, at which to evaluate too. log: what takes down losses and
        metrics. stop: asked after each step whether to end early. Of several processes rank 0 alone writes and shows.
        """
        first = distributed.rank() == 0
        self._stop = stop or self._stop
        self.model.train()
        log = log if first else ()
        share = self.share_done()
        saved = tried = time.monotonic()
        retry = False
        with Bar(
            self.result,
            self.task.unit,
            self._loss_unit,
            shown=progress and first,
            share=share,
            steps=self.options.steps,
        ) as bar:
            for entry in log:
                entry.begin(self.result.steps)
            while share < 1 and not self.stopped_early and not self._stopped:
                rate = self.learning_rate(share)
                self.step()
                for entry in log:
                    entry.step(self.result, rate)
                before, share = share, self.share_done()
                bar.update(share)
                due = any(before < point <= share for point in evaluate_at)
                if due or (evaluate_every and self.result.steps % evaluate_every == 0):
                    metrics = self.evaluate()
                    bar.evaluation(self.result.steps, metrics, best=self._is_best)
                    for entry in log:
                        entry.evaluation(self.result, metrics)
                if checkpoint is None or not first:
                    continue
                now = time.monotonic()
                due = bool(checkpoint_every) and self.result.steps % checkpoint_every == 0
                due = due or (bool(checkpoint_minutes) and now - saved >= 60 * checkpoint_minutes)
                if due or (retry and now - tried >= _RETRY_SECONDS):
                    retry, tried = not self.try_save(checkpoint, bar.write), now
                    saved = time.monotonic()
        self.model.eval()
        return self.result

    @property
    def stopped_early(self) -> bool:
        """Whether evaluations have not got better for as long as `best` has patience."""
        return self.best is not None and self.best.exhausted

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.share_done() >= 1 or self.stopped_early

    def try_save(self, path: str | os.PathLike[str], say: Callable[[str], None]) -> bool:
        """`save`; where that is not possible `say` why, and go on. Whether it was."""
        try:
            self.save(path)
        except (OSError, RuntimeError, MambaSDKError) as error:  # torch's writer raises RuntimeError for a full disk
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            say(f"warning: step {self.result.steps}: the checkpoint {path} cannot be written: {reason}")
            return False
        return True

    def step(self) -> float:
        """One step; its loss, in the task's loss unit. Raises InvalidArgumentError where it is not finite."""
        start = time.perf_counter()
        loss, units = self._step(self.result.steps, self.share_done())
        # All processes go by the clock of rank 0, and stop together.
        seconds = time.perf_counter() - start if distributed.rank() == 0 else 0.0
        seconds, stop = distributed.sum_numbers((seconds, float(self._stop())), self._device)
        self._stopped = stop > 0
        self.result.seconds += seconds
        self.result.steps += 1
        self.result.units += units
        self.result.losses.append(loss / self._loss_size)
        return self.result.losses[-1]

    def evaluate(self) -> dict[str, float]:
        """The task's metrics now, of the averaged weights where the options ask for these; also noted in the result and
        in `best`. Rank 0 of several processes measures.
        """
        training = self.model.training
        self.model.eval()
        metrics: dict[str, float] = {}
        with self.average.applied(self.model) if self.average is not None else contextlib.nullcontext():
            if distributed.rank() == 0:
                with torch.no_grad():
                    metrics = {name: float(value) for name, value in self.task.evaluate().items()}
            metrics = distributed.broadcast_object(metrics)
            self.result.evaluations.append((self.result.steps, metrics))
            self._is_best = self.best is not None and self.best.update(self.result.steps, metrics, self.model)
        self.model.train(training)
        return metrics

    _is_best = False

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
        for norm in self._frozen_norms:
            norm.eval()
        with _seeded((options.seed, step, *[rank for rank in (distributed.rank(),) if rank]), self._device):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=options.autocast is not None):
                loss, units = self.task.loss(step)
            loss.backward()
        total, everyone = distributed.sum_numbers((loss.item() * units, units), self._device)
        if distributed.world_size() > 1:
            distributed.average_gradients(self._parameters, units / max(everyone, 1))
        value = total / max(everyone, 1) if distributed.world_size() > 1 else loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, options.clip)
        for name, number in (("loss", value), ("norm of the gradients", norm.item())):
            if not math.isfinite(number):
                raise InvalidArgumentError(
                    f"the {name} is {number} at step {step}",
                    where="training",
                    way_out="use a smaller learning rate, and look at the data of that step",
                )
        self._optimizer.step()
        if self.average is not None:
            self.average.update(self.model, step + 1)
        return value, int(everyone)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint from which training goes on with the same bits; replaces the old one when it is whole."""
        keep = getattr(self.task, "state_dict", None)
        content = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "task": keep() if keep is not None else {},
            "unit": self.task.unit,
            "options": asdict(self.options),
            "result": asdict(self.result),
            "best": self.best.state_dict() if self.best is not None else {},
            "command": self.command,
            "average": self.average.state_dict() if self.average is not None else {},
        }
        write_checkpoint(content, path)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint of the same model, task and options (the end may differ).

        Raises CheckpointError for a file that is damaged or of another run; the model is as before then.
        """
        where = str(path)
        content = read_checkpoint(path, self._device)
        ours, theirs = asdict(self.options), {**_LATER_OPTIONS, **content["options"]}
        if changed := [name for name in ours if name not in _ENDS and ours[name] != theirs.get(name)]:
            raise CheckpointError(
                f"trained with other options: {', '.join(f'{name} = {theirs.get(name)}' for name in changed)}",
                where=where,
            )
        if content["unit"] != self.task.unit:
            raise CheckpointError(
                "the checkpoint is of another task", where=where, expected=self.task.unit, got=content["unit"]
            )
        self._check_command(content.get("command"), where)
        check_model(self.model.state_dict(), content["model"], where)
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        check_optimizer(self._optimizer.state_dict(), content["optimizer"], parameters, where)
        result = result_of(content["result"], where)
        check_best(content.get("best", {}), content["model"], where)
        if self.average is not None:
            check_model(self.average.state_dict(), content.get("average", {}), where)
        # Nothing is changed up to here, and nothing below refuses but the task, which comes first.
        take = getattr(self.task, "load_state_dict", None)
        if take is not None and distributed.rank() == 0:  # whose state it is; other ranks begin theirs anew
            take(content["task"])
        self._optimizer.load_state_dict(content["optimizer"])
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.result = result
        if self.best is not None and content.get("best"):
            self.best.load_state_dict(content["best"])

    def _check_command(self, theirs: Any, where: str) -> None:
        """Raise CheckpointError where both runs say what they are, and it is not the same."""
        if not self.command or not isinstance(theirs, dict) or not theirs:
            return
        for name in sorted(self.command.keys() | theirs.keys(), key=str):
            if self.command.get(name) != theirs.get(name):
                raise CheckpointError(
                    f"trained with another {name}",
                    where=where,
                    expected=str(theirs.get(name))[:80],
                    got=str(self.command.get(name))[:80],
                )


def _optimizer(groups: list[dict[str, Any]], options: TrainingOptions) -> torch.optim.Optimizer:
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0)
    return torch.optim.AdamW(groups, lr=options.lr, betas=(options.beta1, options.beta2), fused=True)


@contextlib.contextmanager
def _seeded(seed: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Torch's random numbers as a function of `seed`; the generators go on as if nothing was drawn inside."""
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng([device] if device.type != "cpu" else [], device_type=_random_device(device)):
        torch.manual_seed(number)
        yield


def _random_device(device: torch.device) -> str:
    return "cuda" if device.type == "cpu" else device.type

"""The progress bar of a training run, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from mambasdk.training.announcement import time_text
from mambasdk.training.result import TrainingResult

_TIMED_STEPS = 3  # after which the rest is estimated, the first one left out


class Bar:
    """Share done, steps, time gone and left, smoothed loss and rate; `result` is read at every update."""

    def __init__(
        self, result: TrainingResult, unit: str, loss_unit: str, *, shown: bool, share: float = 0.0, steps: int | None
    ) -> None:
        """share: of the run that was done before. steps: of the whole run, where it ends by steps."""
        self._result = result
        self._unit = unit
        self._loss_unit = f" {loss_unit}" if loss_unit else ""
        self._smooth: float | None = None
        self._steps = steps
        self._first = result.steps
        self._warm: tuple[float, float] | None = None  # (seconds, share) after the first step
        self._shown = shown
        # Into a file or a log, one line now and then is enough.
        self._bar: Any = tqdm(
            total=100,
            initial=100 * share,
            desc="training",
            disable=not shown,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed} {postfix}",
            mininterval=0.2 if sys.stderr.isatty() else 15.0,
        )

    def update(self, share: float) -> None:
        """After a step; share of the run that is done, 0 to 1."""
        result = self._result
        last = result.losses[-1]
        self._smooth = last if self._smooth is None else 0.95 * self._smooth + 0.05 * last
        rate = result.units_per_second
        left = self._left(share)
        total = f"/{self._steps:,}" if self._steps else ""
        self._bar.set_postfix_str(
            f"{f'< {time_text(left)} left, ' if left is not None else ''}step {result.steps:,}{total}, "
            f"loss {self._smooth:.3f}{self._loss_unit}, {rate:,.{0 if rate >= 10 else 1}f} {self._unit}/s",
            refresh=False,
        )
        self._bar.update(min(100 * share, 100) - self._bar.n)
        if left is not None and result.steps == self._first + _TIMED_STEPS:
            self.write(f"time: about {time_text(left)} for what is left, by the first steps")

    def evaluation(self, step: int, metrics: Mapping[str, float], *, best: bool = False) -> None:
        """Show held-out metrics as they come."""
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())
        self.write(f"step {step:,}: held out: {shown or 'nothing'}{', the best so far' * best}")

    def write(self, line: str) -> None:
        """A line above the bar."""
        if self._shown:
            self._bar.write(line, file=sys.stderr)

    def _left(self, share: float) -> float | None:
        """Seconds of steps that are left, by the pace since the first step of this process."""
        seconds = self._result.seconds
        if self._warm is None:
            self._warm = seconds, share
            return None
        since, before = self._warm
        if share <= before:
            return None
        return (seconds - since) / (share - before) * max(1 - share, 0.0)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

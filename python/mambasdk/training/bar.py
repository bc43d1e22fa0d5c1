"""The progress bar of a training run, on standard error."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from mambasdk.training.result import TrainingResult


class Bar:
    """Share done, time, smoothed loss and rate; `result` is read at every update."""

    def __init__(self, result: TrainingResult, unit: str, loss_unit: str, *, shown: bool) -> None:
        self._result = result
        self._unit = unit
        self._loss_unit = f" {loss_unit}" if loss_unit else ""
        self._smooth: float | None = None
        # Into a file or a log, one line now and then is enough.
        self._bar: Any = tqdm(
            total=100,
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
        self._bar.set_postfix_str(
            f"step {result.steps}, loss {self._smooth:.3f}{self._loss_unit}, "
            f"{rate:,.{0 if rate >= 10 else 1}f} {self._unit}/s",
            refresh=False,
        )
        self._bar.update(min(100 * share, 100) - self._bar.n)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

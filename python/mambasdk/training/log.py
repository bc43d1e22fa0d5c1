"""The log of a run: losses and metrics as CSV, and for TensorBoard where it is asked for. No torch for CSV."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from mambasdk.atomic import replacing_file
from mambasdk.errors import require_module
from mambasdk.training.result import TrainingResult

_COLUMNS = ("step", "units", "seconds", "learning_rate", "loss")


class Log(Protocol):
    """What takes down the course of a run."""

    def begin(self, step: int) -> None:
        """The run starts after so many steps; what was taken down of later ones (before a crash) is void."""

    def step(self, result: TrainingResult, learning_rate: float) -> None:
        """After a step."""

    def evaluation(self, result: TrainingResult, metrics: Mapping[str, float]) -> None:
        """After an evaluation."""

    def close(self) -> None:
        """The run is over or interrupted."""


class CsvLog:
    """One row for each step and one for each evaluation: step, units, seconds, learning_rate, loss, then metrics.

    A cell is empty where a row has no such value. A file that cannot be written any more is given up with a warning:
    it must not end the run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._columns = list(_COLUMNS)
        self._file: IO[str] | None = None
        self._broken = False

    def begin(self, step: int) -> None:
        """Keep the rows of steps that are done."""
        with self._guarded():
            self._rewrite([row for row in self._read() if step and int(row["step"]) <= step])

    def step(self, result: TrainingResult, learning_rate: float) -> None:
        """See Log."""
        self._write(_place(result) | {"learning_rate": learning_rate, "loss": result.losses[-1]})

    def evaluation(self, result: TrainingResult, metrics: Mapping[str, float]) -> None:
        """See Log; a metric of a new name becomes a new column."""
        names = {f"held_out_{name}": value for name, value in metrics.items()}
        if any(name not in self._columns for name in names):
            with self._guarded():
                rows = self._read()
                self._columns += [name for name in names if name not in self._columns]
                self._rewrite(rows)
        self._write(_place(result) | names)

    def close(self) -> None:
        """See Log."""
        with self._guarded():
            if self._file is not None:
                self._file.close()
        self._file = None

    def _write(self, row: Mapping[str, Any]) -> None:
        with self._guarded():
            if self._file is not None:
                csv.DictWriter(self._file, self._columns).writerow({name: _cell(row[name]) for name in row})

    def _read(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            self._columns += [name for name in reader.fieldnames or () if name not in self._columns]
            return [row for row in reader if (row.get("step") or "").isdigit()]

    def _rewrite(self, rows: Sequence[Mapping[str, str]]) -> None:
        if self._file is not None:
            self._file.close()
        with replacing_file(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows({name: row.get(name) or "" for name in self._columns} for row in rows)
        self._file = self.path.open("a", buffering=1, newline="", encoding="utf-8")  # a line is seen when it is written

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, csv.Error) as error:
            self._file = None
            if not self._broken:
                print(f"{self.path}: the log cannot be written any more: {error}", file=sys.stderr)
            self._broken = True


class TensorBoardLog:
    """Scalars `loss`, `learning_rate` and `held_out/METRIC` by step."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        require_module("tensorboard", "--tensorboard", "pip install tensorboard")
        module = require_module("torch.utils.tensorboard", "--tensorboard", "pip install tensorboard")
        self._type: Any = module.SummaryWriter
        self._folder = str(folder)
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """See Log."""
        self._writer = self._type(self._folder, purge_step=step + 1 if step else None)

    def step(self, result: TrainingResult, learning_rate: float) -> None:
        """See Log."""
        self._writer.add_scalar("loss", result.losses[-1], result.steps)
        self._writer.add_scalar("learning_rate", learning_rate, result.steps)

    def evaluation(self, result: TrainingResult, metrics: Mapping[str, float]) -> None:
        """See Log."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"held_out/{name}", value, result.steps)

    def close(self) -> None:
        """See Log."""
        if self._writer is not None:
            self._writer.close()


def _place(result: TrainingResult) -> dict[str, Any]:
    return {"step": result.steps, "units": result.units, "seconds": round(result.seconds, 3)}


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value

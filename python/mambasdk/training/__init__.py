"""Training loop of every family: a head brings a Task (data, loss, metrics), the Trainer does the rest.

What needs torch is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mambasdk.training.arguments import add_training_arguments, check_output, options_from_arguments
from mambasdk.training.batches import Batches
from mambasdk.training.best import Best
from mambasdk.training.curve import write_curve
from mambasdk.training.head import TaskHead, TaskRun
from mambasdk.training.log import CsvLog
from mambasdk.training.options import TrainingOptions
from mambasdk.training.result import TrainingResult
from mambasdk.training.start import Start, refuse_other_targets, start_model
from mambasdk.training.task import Task

if TYPE_CHECKING:
    from mambasdk.training.command import Trained, train_from_arguments
    from mambasdk.training.trainer import Trainer

__all__ = [
    "Batches",
    "Best",
    "CsvLog",
    "Start",
    "Task",
    "TaskHead",
    "TaskRun",
    "Trained",
    "Trainer",
    "TrainingOptions",
    "TrainingResult",
    "add_training_arguments",
    "check_output",
    "options_from_arguments",
    "refuse_other_targets",
    "start_model",
    "train_from_arguments",
    "write_curve",
]

_NEEDS_TORCH = {"Trainer": "trainer", "Trained": "command", "train_from_arguments": "command"}


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        value = getattr(importlib.import_module(f"mambasdk.training.{_NEEDS_TORCH[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mambasdk.training' has no attribute {name!r}")

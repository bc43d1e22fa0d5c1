"""Training loop of every family: a head brings a Task (data, loss, metrics), the Trainer does the rest.

Only the Trainer needs torch, which is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mambasdk.training.arguments import (
    add_training_arguments,
    check_output,
    options_from_arguments,
    run_from_arguments,
)
from mambasdk.training.batches import Batches
from mambasdk.training.curve import write_curve
from mambasdk.training.options import TrainingOptions
from mambasdk.training.result import TrainingResult
from mambasdk.training.task import Task

if TYPE_CHECKING:
    from mambasdk.training.trainer import Trainer

__all__ = [
    "Batches",
    "Task",
    "Trainer",
    "TrainingOptions",
    "TrainingResult",
    "add_training_arguments",
    "check_output",
    "options_from_arguments",
    "run_from_arguments",
    "write_curve",
]


def __getattr__(name: str) -> Any:
    if name == "Trainer":
        value = importlib.import_module("mambasdk.training.trainer").Trainer
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mambasdk.training' has no attribute {name!r}")

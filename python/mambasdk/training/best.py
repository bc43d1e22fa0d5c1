"""The best evaluation of a run: its weights, and how long ago it was. Needs torch only for weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from mambasdk.errors import InvalidArgumentError

if TYPE_CHECKING:
    from torch import nn

_LOWER_IS_BETTER = ("loss", "error", "perplexity", "bits", "distance")


class Best:
    """Follows one metric of a run's evaluations.

    metric: its name. goal: "max" or "min". patience: evaluations without a better one after which the run ends, 0 for
    never. keep: whether the weights of the best evaluation are kept (a copy on the CPU).
    """

    def __init__(self, metric: str, goal: Literal["max", "min"], *, patience: int = 0, keep: bool = False) -> None:
        if goal not in ("max", "min"):
            raise InvalidArgumentError("bad goal", where=f"best {metric}", expected="max or min", got=goal)
        if patience < 0:
            raise InvalidArgumentError("bad patience", where="training", expected="0 or more", got=patience)
        self.metric = metric
        self.goal = goal
        self.patience = patience
        self.keep = keep
        self.step = -1
        self.metrics: dict[str, float] = {}
        self.stale = 0
        self.weights: dict[str, Any] | None = None

    @property
    def exhausted(self) -> bool:
        """Whether the run has waited long enough for something better."""
        return bool(self.patience) and self.stale >= self.patience

    def update(self, step: int, metrics: Mapping[str, float], model: nn.Module) -> bool:
        """Take an evaluation in; whether it is the best until now. Raises InvalidArgumentError for a missing metric."""
        if self.metric not in metrics:
            raise InvalidArgumentError(
                "no such metric", where=f"best {self.metric}", expected=", ".join(metrics) or "one of none"
            )
        value = metrics[self.metric]
        old = self.metrics.get(self.metric, math.nan)
        better = not math.isnan(value) and (math.isnan(old) or (value > old if self.goal == "max" else value < old))
        if not better:
            self.stale += 1
            return False
        self.step, self.metrics, self.stale = step, dict(metrics), 0
        if self.keep:
            self.weights = {
                name: tensor.detach().to("cpu", copy=True) if hasattr(tensor, "detach") else tensor
                for name, tensor in model.state_dict().items()
            }
        return True

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {
            "metric": self.metric,
            "step": self.step,
            "metrics": self.metrics,
            "stale": self.stale,
            "weights": self.weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what a run that followed the same metric had; that of another metric is left out."""
        if state and state["metric"] == self.metric and not (self.keep and state["weights"] is None):
            self.step, self.metrics, self.stale = state["step"], dict(state["metrics"]), state["stale"]
            self.weights = state["weights"] if self.keep else None


def goal_of(metric: str, goals: Mapping[str, str]) -> Literal["max", "min"]:
    """Whether more or less of a metric is better: what the task says, else what the name says."""
    if metric in goals:
        return "max" if goals[metric] == "max" else "min"
    return "min" if any(word in metric for word in _LOWER_IS_BETTER) else "max"

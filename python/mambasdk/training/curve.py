"""The curve of a training run as a PNG. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mambasdk.atomic import replacing_file
from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk.training.result import TrainingResult

_LOSS, _SMOOTH, _METRIC = "#9ecae1", "#08519c", "#d94801"


def write_curve(
    path: str | os.PathLike[str],
    result: TrainingResult,
    *,
    title: str = "Training",
    unit: str = "examples",
    loss_label: str = "loss",
    metric: str | None = None,
    metric_label: str | None = None,
    baselines: Mapping[str, float] | None = None,
) -> None:
    """Draw the loss of each step and smoothed, a held-out metric, and `baselines` as labelled lines.

    unit: what the horizontal axis counts. metric: name in `result.evaluations`, None for none. metric_label: its axis,
    on the right; where it equals `loss_label` one axis shows both. baselines: values to compare the metric with (the
    loss, where there is no metric). Raises InvalidArgumentError for a metric that was never evaluated.
    """
    require_module("matplotlib", "drawing the curve", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses = np.asarray(result.losses)
    evaluations = _evaluations(result, metric)
    values = [value for _, value in evaluations]
    metric_label = metric_label or metric or ""
    per_step = result.units / max(result.steps, 1)
    divisor, words = _scale(result.units)

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    together = metric is None or metric_label == loss_label
    right = axes if together else axes.twinx()
    x = np.arange(1, len(losses) + 1) * per_step / divisor
    axes.plot(x, losses, color=_LOSS, linewidth=0.8, label="training, each step")
    if len(losses):
        axes.plot(x, _smooth(losses), color=_SMOOTH, linewidth=1.8, label="training, smoothed")
    if evaluations:
        at = np.asarray([step for step, _ in evaluations]) * per_step / divisor
        label = "held out" if together else f"held out, {metric_label}"
        right.plot(at, values, "o-", color=_METRIC, markersize=5, label=label)
    for index, (label, value) in enumerate((baselines or {}).items()):
        style = ("--", ":", "-.")[index % 3]
        right.axhline(value, color="#636363", linestyle=style, linewidth=1.2, label=f"{label}: {value:.3f}")
    if len(losses):
        axes.set_ylim(*_limits(losses, [*(baselines or {}).values(), *values] if together else []))
    axes.set_xlabel(f"training {unit}{words}")
    axes.set_ylabel(loss_label)
    if not together:
        right.set_ylabel(metric_label, color=_METRIC)
        right.tick_params(axis="y", colors=_METRIC)
    axes.set_title(title)
    axes.grid(alpha=0.25)
    lines = axes.get_lines() if together else [*axes.get_lines(), *right.get_lines()]
    figure.legend(handles=list(lines), frameon=False, loc="outside lower center", ncols=2)
    with replacing_file(path) as partial:
        # The ending of a picture's name says its kind, so one without is a PNG.
        figure.savefig(partial, format=None if partial.suffix else "png")


def _limits(losses: NDArray[np.float64], others: list[float]) -> tuple[float, float]:
    """Ends of the vertical axis: a loss that starts far above all the rest would flatten it, so that start is cut."""
    low = min(losses.min(), *others, np.inf)
    high = losses.max()
    if high > low + 4:
        high = min(high, max(losses[-1] * 2.2, low + 2))
    high = max(high, *others, -np.inf)
    margin = 0.04 * (high - low) or 0.1
    return (low - margin if low < 0 else max(low - margin, 0.0)), high + margin


def _evaluations(result: TrainingResult, metric: str | None) -> list[tuple[int, float]]:
    """(step, value) of a metric."""
    if metric is None:
        return []
    found = [(step, metrics[metric]) for step, metrics in result.evaluations if metric in metrics]
    if result.evaluations and not found:
        known = ", ".join(result.evaluations[-1][1])
        raise InvalidArgumentError("no such metric", where="write_curve", expected=known, got=metric)
    return found


def _scale(units: int) -> tuple[float, str]:
    """(divisor, its name in brackets) that gives an axis of short numbers."""
    for divisor, word in ((1e6, "millions"), (1e3, "thousands")):
        if units >= 2 * divisor:
            return divisor, f" ({word})"
    return 1.0, ""


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a window of about a fortieth of the run, shorter at both ends."""
    half = max(len(values) // 80, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.minimum(np.arange(len(values)) + half + 1, len(values))
    starts = np.maximum(np.arange(len(values)) - half, 0)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means

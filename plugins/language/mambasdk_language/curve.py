"""The loss curve of a training run as a PNG."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import require_module
from mambasdk_language.training import TrainingResult


def write_curve(
    path: str | os.PathLike[str],
    result: TrainingResult,
    *,
    title: str = "Training",
    baselines: dict[str, float] | None = None,
) -> None:
    """Draw the training loss, smoothed, the held-out bits per byte, and `baselines` as labelled lines.

    x: training tokens; y: bits per token, which for raw bytes are bits per byte.
    """
    require_module("matplotlib", "drawing the loss curve", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses = np.asarray(result.losses)
    per_step = result.tokens / max(result.steps, 1)
    millions = np.arange(1, len(losses) + 1) * per_step / 1e6
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(millions, losses, color="#9ecae1", linewidth=0.8, label="training, each step")
    if len(losses):
        axes.plot(millions, _smooth(losses), color="#08519c", linewidth=1.8, label="training, smoothed")
    if result.held_out:
        steps, bits = zip(*result.held_out, strict=True)
        axes.plot(np.asarray(steps) * per_step / 1e6, bits, "o-", color="#d94801", markersize=5, label="held-out files")
    for index, (label, value) in enumerate((baselines or {}).items()):
        style = ("--", ":", "-.")[index % 3]
        axes.axhline(value, color="#636363", linestyle=style, linewidth=1.2, label=f"{label}: {value:.3f}")
    if len(losses):
        low = min([losses.min(), *(baselines or {}).values(), *(bits for _, bits in result.held_out)])
        axes.set_ylim(max(low - 0.15, 0), min(losses.max(), max(losses[-1] * 2.2, low + 2)))
    axes.set_xlabel("training tokens (millions)")
    axes.set_ylabel("bits per byte")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a window of about a fortieth of the run, shorter at both ends."""
    half = max(len(values) // 80, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.minimum(np.arange(len(values)) + half + 1, len(values))
    starts = np.maximum(np.arange(len(values)) - half, 0)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means

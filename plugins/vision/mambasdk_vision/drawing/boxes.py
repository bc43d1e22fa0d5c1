"""Pictures of boxes: what was found on an image, beside its labels where they are known. They need matplotlib."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambasdk.errors import require_module
from mambasdk_vision.processors import ImageProcessor

_LONGEST_LABEL = 24


def colour_of(index: int) -> tuple[float, float, float]:
    """A colour for each class; those of neighbours are far apart (steps of the golden angle around the circle)."""
    return colorsys.hsv_to_rgb((0.58 + 0.618034 * index) % 1.0, 0.85, 0.85 if index % 2 else 0.95)


def draw_boxes(file: str | os.PathLike[str], result: Mapping[str, Any], out: str | os.PathLike[str]) -> None:
    """Write the PNG `out`: `file` under result["detections"], each with its label and score."""
    require_module("matplotlib", "drawing the result", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pixels = _pixels(file)
    height, width = pixels.shape[:2]
    scale = min(10 / width, 8 / height)
    figure = Figure(figsize=(max(width * scale, 3), max(height * scale, 2.5) + 0.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    show_boxes(axes, pixels, result["detections"])
    count = len(result["detections"])
    axes.set_title(f"{Path(file).name}: {count} object{'' if count == 1 else 's'}", fontsize=10)
    figure.savefig(out)


def draw_beside_labels(
    out: str | os.PathLike[str],
    files: Sequence[str | os.PathLike[str]],
    labels: Sequence[Sequence[Mapping[str, Any]]],
    found: Sequence[Sequence[Mapping[str, Any]]],
) -> None:
    """Write the PNG `out`: a row for each file, its labels on the left and what was found on the right.

    labels, found: of each file {"box": [x1, y1, x2, y2], "label", "index"} and, of what was found, "score".
    """
    require_module("matplotlib", "drawing predictions", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2 * max(len(files), 1)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(max(len(files), 1), 2, squeeze=False)
    for row, (file, truth, boxes) in enumerate(zip(files, labels, found, strict=True)):
        pixels = _pixels(file)
        for axes, shown, title in zip(grid[row], (truth, boxes), ("labels", "predictions"), strict=True):
            show_boxes(axes, pixels, shown)
            axes.set_title(f"{Path(file).name}: {title}" if row == 0 else Path(file).name, fontsize=9)
    figure.savefig(out)


def show_boxes(axes: Any, pixels: Any, detections: Sequence[Mapping[str, Any]]) -> None:
    """An image (H, W, 3), 0 to 1, and boxes on the axes of matplotlib; the best boxes are on top."""
    from matplotlib.patches import Rectangle

    height, width = pixels.shape[:2]
    axes.imshow(pixels, interpolation="nearest" if max(height, width) < 200 else "antialiased")
    for one in reversed(detections):
        left, top, right, bottom = (float(value) for value in one["box"])
        colour = colour_of(int(one["index"]))
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=colour,
                                 linewidth=1.8))  # fmt: skip
        label = str(one["label"])
        label = label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
        text = f"{label} {float(one['score']):.2f}" if "score" in one else label
        axes.text(
            left, max(top - 1, 0), text, fontsize=7, color="white", va="bottom" if top > 0.06 * height else "top",
            clip_on=True, bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2, "alpha": 0.9},
        )  # fmt: skip
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_axis_off()


def draw_precision_recall(
    out: str | os.PathLike[str], recalls: Any, precisions: Any, labels: Sequence[str], scores: Sequence[float]
) -> None:
    """Write the PNG `out`: precision (classes, recalls) over recall at an IoU of 0.5, and their mean.

    scores: AP50 of each class; classes with NaN are left out. Names are shown where there are ten classes or fewer.
    """
    require_module("matplotlib", "drawing curves", "pip install matplotlib")
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    known = [index for index, score in enumerate(scores) if not np.isnan(score)]
    for index in known:
        name = f"{labels[index]} {scores[index]:.3f}" if len(known) <= 10 else None
        axes.plot(recalls, precisions[index], color=colour_of(index), linewidth=1.2, alpha=0.8, label=name)
    if known:
        mean = float(np.mean([scores[index] for index in known]))
        axes.plot(recalls, np.mean(np.asarray(precisions)[known], 0), color="black", linewidth=2.2,
                  label=f"all {mean:.3f}")  # fmt: skip
        axes.legend(loc="lower left", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_title("precision and recall at an IoU of 0.5", fontsize=10)
    axes.grid(alpha=0.25)
    figure.savefig(out)


def _pixels(file: str | os.PathLike[str]) -> Any:
    return ImageProcessor(resize="none", layout="channels_last")(file)["image"][0]  # (H, W, 3), 0 to 1

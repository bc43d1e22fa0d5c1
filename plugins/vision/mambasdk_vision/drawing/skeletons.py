"""A picture of poses: the image, and the keypoints and lines of every person on it. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.errors import require_module
from mambasdk_vision.processors import ImageProcessor

_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45")
_LEAST_SCORE = 0.1  # of a keypoint that is drawn


def draw_skeletons(file: str | os.PathLike[str], result: Mapping[str, Any], out: str | os.PathLike[str]) -> None:
    """Write the PNG `out`: `file` under result["people"], joined as result["skeleton"] says.

    Keypoints with a score below 0.1 are left out, with their lines; so are boxes where a pose has none.
    """
    require_module("matplotlib", "drawing the result", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    pixels = ImageProcessor(resize="none", layout="channels_last")(file)["image"][0]  # (H, W, 3), 0 to 1
    height, width = pixels.shape[:2]
    scale = min(10 / width, 8 / height)
    figure = Figure(figsize=(max(width * scale, 3), max(height * scale, 2.5) + 0.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(pixels, interpolation="nearest" if max(height, width) < 200 else "antialiased")
    for person, colour in zip(result["people"], _repeated(len(result["people"])), strict=True):
        points = np.array(person["keypoints"], float).reshape(-1, 3)
        shown = points[:, 2] >= _LEAST_SCORE  # a score that is no number (null) is not shown
        for a, b in result.get("skeleton", []):
            if shown[a] and shown[b]:
                axes.plot(points[[a, b], 0], points[[a, b], 1], color=colour, linewidth=2.2, alpha=0.85)
        axes.scatter(
            points[shown, 0], points[shown, 1], s=16, color=colour, edgecolors="white", linewidths=0.6, zorder=3
        )
        left, top, right, bottom = person["box"]
        if right > left and bottom > top:
            axes.add_patch(
                Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=0.8)
            )
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_axis_off()
    count = len(result["people"])
    best = max((float(person["score"]) for person in result["people"]), default=0.0)
    axes.set_title(
        f"{Path(file).name}: {count} {'person' if count == 1 else 'people'}, best score {best:.2f}", fontsize=10
    )
    figure.savefig(out)


def _repeated(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]

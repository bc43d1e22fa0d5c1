"""A picture of a classification: the image, and its labels with their probabilities. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.errors import require_module
from mambasdk_vision.processors import ImageProcessor

_BEST, _OTHER = "#08519c", "#9ecae1"
_LONGEST_LABEL = 28


def draw_labels(file: str | os.PathLike[str], result: Mapping[str, Any], out: str | os.PathLike[str]) -> None:
    """Write the PNG `out`: `file` beside bars of result["labels"], best on top."""
    require_module("matplotlib", "drawing the result", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pixels = ImageProcessor(resize="none", layout="channels_last")(file)["image"][0]  # (H, W, 3), 0 to 1
    rows = result["labels"]
    names = [_short(str(row["label"])) for row in rows]
    scores = [float(row["score"]) for row in rows]
    probabilities = all(0 <= score <= 1 for score in scores)

    figure = Figure(figsize=(9, max(3.2, 0.42 * len(rows) + 1.6)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    small = max(pixels.shape[:2]) < 64
    left.imshow(pixels, interpolation="nearest" if small else "antialiased")
    left.set_axis_off()
    left.set_title(Path(file).name, fontsize=10)
    bars = right.barh(range(len(rows)), scores, color=[_BEST] + [_OTHER] * (len(rows) - 1))
    texts = [f"{score:.1%}" if probabilities else f"{score:.3g}" for score in scores]
    right.bar_label(bars, texts, padding=4, fontsize=9)
    right.set_yticks(range(len(rows)), names)
    right.invert_yaxis()
    if probabilities:
        right.set_xlim(0, 1.15)
        right.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    right.set_xlabel("probability" if probabilities else "score")
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"

"""A picture of a segmentation: the image, the classes over it, and a legend. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import require_module
from mambasdk_vision.processors import ImageProcessor

_OPACITY = 0.6
_LEGEND = 20  # classes that it has room for
_LONGEST_LABEL = 28


def draw_masks(
    file: str | os.PathLike[str],
    result: Mapping[str, Any],
    class_map: npt.NDArray[Any],
    palette: npt.NDArray[np.uint8],
    out: str | os.PathLike[str],
) -> None:
    """Write the PNG `out`: `file`, and beside it the same with each pixel in its class's colour.

    result: what the head `semantic_segmentation` says. class_map: (H, W). palette: uint8 (C, 3).
    """
    require_module("matplotlib", "drawing the result", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    pixels = ImageProcessor(resize="none", layout="channels_last")(file)["image"][0]  # (H, W, 3), 0 to 1
    height, width = class_map.shape
    figure = Figure(figsize=(11, min(max(8.4 * height / (2 * width) + 0.6, 2.4), 9)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes, picture in ((left, pixels), (right, blended(pixels, class_map, palette))):
        axes.imshow(picture, interpolation="nearest" if max(height, width) < 400 else "antialiased")
        axes.set_axis_off()
    left.set_title(Path(file).name, fontsize=10)
    rows = result["classes"]
    right.set_title(f"{len(rows)} classes" if len(rows) != 1 else "1 class", fontsize=10)
    patches = [Patch(color=row["color"], label=f"{_short(str(row['label']))}  {row['share']:.1%}") for row in rows]
    if len(patches) > _LEGEND:
        rest = sum(row["share"] for row in rows[_LEGEND:])
        patches[_LEGEND:] = [Patch(color="none", label=f"{len(rows) - _LEGEND} more  {rest:.1%}")]
    if patches:
        figure.legend(handles=patches, loc="outside right center", frameon=False, fontsize=9)
    figure.savefig(out)


def blended(
    pixels: npt.NDArray[np.float32], class_map: npt.NDArray[Any], palette: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Pixels float32 (H, W, 3), 0 to 1, mixed with the colours of their classes; without a class they stay."""
    known = (class_map >= 0) & (class_map < len(palette))
    colours = palette[np.where(known, class_map, 0)].astype(np.float32) / 255  # (H, W, 3)
    opacity = np.where(known, _OPACITY, 0.0)[..., None]
    mixed: npt.NDArray[np.float32] = ((1 - opacity) * pixels + opacity * colours).astype(np.float32)
    return mixed


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"

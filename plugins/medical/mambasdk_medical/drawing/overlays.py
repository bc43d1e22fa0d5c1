"""Labels over a 2-D image, and over three orthogonal slices of a volume, with contours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import ShapeError, require_module

Pixels = npt.NDArray[Any]
LabelMap = npt.NDArray[np.integer]

_OPACITY = 0.35
_LEGEND = 20  # labels that it has room for
# Easy to tell apart on grey, also with red-green blindness (Okabe and Ito); then matplotlib's of many.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def draw_overlay(
    image: Pixels,
    labels: LabelMap,
    names: Sequence[str],
    out: str | os.PathLike[str],
    truth: LabelMap | None = None,
) -> None:
    """Write the PNG `out`: the image, `labels` over it, and `truth` over it where it is given.

    image: (H, W) of any range, or (H, W, 3), 0 to 1 or uint8. labels, truth: (H, W); value k is names[k - 1], 0 is the
    background. Raises ShapeError.
    """
    _check(image.shape[:2], labels, truth)
    columns = [("image", None), ("labels", labels), *([] if truth is None else [("truth", truth)])]
    height, width = image.shape[:2]
    figure = _figure(4.2 * len(columns), min(max(4.2 * height / width, 2.0), 9.0) + 0.8)
    shown = image if image.ndim == 3 else _grey(image)
    for axes, (title, over) in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        _draw(axes, shown, over, len(names), aspect=1.0)
        axes.set_title(title, fontsize=10)
    _legend(figure, names, [labels, truth])
    figure.savefig(out)


def draw_slices(
    volume: Pixels,
    labels: LabelMap,
    names: Sequence[str],
    spacing: Sequence[float],
    out: str | os.PathLike[str],
    truth: LabelMap | None = None,
) -> None:
    """Write the PNG `out`: the three orthogonal slices with the most of the labels, a row for `labels` and for `truth`.

    volume: (D, H, W) of any range. labels, truth: (D, H, W); value k is names[k - 1]. spacing: of the three axes, which
    sets how tall a voxel is drawn. Raises ShapeError.
    """
    _check(volume.shape, labels, truth)
    rows = [("labels", labels), *([] if truth is None else [("truth", truth)])]
    where = _fullest(labels if truth is None or labels.any() else truth)
    figure = _figure(12.6, 4.2 * len(rows) + 0.8)
    grey = _grey(volume)
    for line, (title, over) in zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True):
        for axis, axes in enumerate(line):
            down, across = (other for other in range(3) if other != axis)
            _draw(
                axes,
                np.take(grey, where[axis], axis),
                np.take(over, where[axis], axis),
                len(names),
                aspect=spacing[down] / spacing[across],
            )
            axes.set_title(f"{title}, axis {axis}, slice {where[axis]}", fontsize=10)
    _legend(figure, names, [labels, truth])
    figure.savefig(out)


def _check(shape: tuple[int, ...], labels: LabelMap, truth: LabelMap | None) -> None:
    for name, given in (("labels", labels), ("truth", truth)):
        if given is not None and given.shape != shape:
            raise ShapeError(f"{name} do not lie on the image", where="draw", expected=shape, got=given.shape)


def _figure(width: float, height: float) -> Any:
    require_module("matplotlib", "drawing labels", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _grey(values: Pixels) -> Pixels:
    """Between the first and the last percent of the values, 0 to 1."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    return np.clip((np.nan_to_num(values.astype(np.float64)) - low) / max(high - low, 1e-12), 0, 1)


def _draw(axes: Any, pixels: Pixels, labels: LabelMap | None, count: int, aspect: float) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    axes.set_axis_off()
    if labels is None:
        return
    for value, colour in enumerate(_colours(count), start=1):
        mask = labels == value
        if not mask.any():
            continue
        filled = np.zeros((*mask.shape, 4))
        filled[mask] = (*colour, _OPACITY)
        axes.imshow(filled, aspect=aspect, interpolation="nearest")
        if min(mask.shape) > 1:
            axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.2)


def _legend(figure: Any, names: Sequence[str], maps: Sequence[LabelMap | None]) -> None:
    from matplotlib.patches import Patch

    present = {int(value) for given in maps if given is not None for value in np.unique(given)}
    rows = [
        Patch(color=colour, label=name)
        for value, (name, colour) in enumerate(zip(names, _colours(len(names)), strict=True), start=1)
        if value in present
    ]
    if len(rows) > _LEGEND:
        rows[_LEGEND:] = [Patch(color="none", label=f"{len(rows) - _LEGEND} more")]
    if rows:
        figure.legend(handles=rows, loc="outside right center", frameon=False, fontsize=9)


def _colours(count: int) -> list[tuple[float, float, float]]:
    from matplotlib import colormaps, colors

    first = [colors.to_rgb(colour) for colour in _COLOURS[:count]]
    rest = [colors.to_rgb(colormaps["tab20"](index % 20)) for index in range(count - len(first))]
    return [*first, *rest]


def _fullest(labels: LabelMap) -> list[int]:
    """By axis the slice with the most labelled voxels, the middle one where there are none."""
    mask = labels != 0
    if not mask.any():
        return [extent // 2 for extent in labels.shape]
    others = [tuple(other for other in range(3) if other != axis) for axis in range(3)]
    return [int(mask.sum(axis=axes).argmax()) for axes in others]

"""Scores of one case: every label of a label map."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk_medical.metrics.surface import Mask, Surfaces

LabelMap = npt.NDArray[np.integer]
Labels = Mapping[str, "int | tuple[int, ...]"]

DEFAULT_TOLERANCE = 2.0  # millimetres, of labels that none is given for


def scores(
    truth: LabelMap,
    found: LabelMap,
    labels: Labels,
    spacing: Sequence[float],
    *,
    tolerances: Mapping[str, float] | None = None,
    ignore: int | None = None,
    crop_z: Collection[str] = (),
    both_absent: float = 1.0,
) -> dict[str, dict[str, float]]:
    """By label `dice`, `iou`, `nsd`, `hd95`, `voxels_truth` and `voxels_found`.

    truth, found: integers (*S). labels: name -> the label's value, or the values of a region. spacing: of the axes.
    tolerances: of `nsd` in the unit of spacing, 2 where there is none. ignore: a value of `truth` that is not scored.
    crop_z: labels that are scored in the slices along the first axis that `truth` has them in, first to last, as
    vessels are that were annotated in part. both_absent: dice, iou and nsd of a label that neither has; its hd95 is 0.
    hd95 is NaN where only one of them has the label. Raises ShapeError, InvalidArgumentError.
    """
    if truth.shape != found.shape:
        raise ShapeError("the label maps differ in shape", where="scores", expected=truth.shape, got=found.shape)
    if len(spacing) != truth.ndim or not all(np.isfinite(step) and step > 0 for step in spacing):
        raise InvalidArgumentError(
            "bad spacing", where="scores", expected=f"{truth.ndim} positive numbers", got=tuple(spacing)
        )
    if unknown := {*(tolerances or {}), *crop_z} - set(labels):
        raise InvalidArgumentError(
            f"no label is called {sorted(unknown)[0]}", where="scores", expected=", ".join(labels), got=sorted(unknown)
        )
    seen = None if ignore is None else truth != ignore
    result = {}
    for name, values in labels.items():
        first, second = _mask(truth, values, seen), _mask(found, values, seen)
        if name in crop_z:
            first, second = _slices_of(first, second)
        tolerance = (tolerances or {}).get(name, DEFAULT_TOLERANCE)
        result[name] = _of_masks(first, second, spacing, tolerance, both_absent)
    return result


def _mask(values: LabelMap, wanted: int | tuple[int, ...], seen: Mask | None) -> Mask:
    mask: Mask = np.isin(values, wanted) if isinstance(wanted, tuple) else values == wanted
    return mask if seen is None else mask & seen


def _slices_of(truth: Mask, found: Mask) -> tuple[Mask, Mask]:
    slices = np.flatnonzero(truth.any(axis=tuple(range(1, truth.ndim))))
    if slices.size == 0:
        return truth, found
    kept = slice(int(slices[0]), int(slices[-1]) + 1)
    return truth[kept], found[kept]


def _of_masks(
    truth: Mask, found: Mask, spacing: Sequence[float], tolerance: float, both_absent: float
) -> dict[str, float]:
    given, answered, both = int(truth.sum()), int(found.sum()), int((truth & found).sum())
    counts = {"voxels_truth": float(given), "voxels_found": float(answered)}
    if given == answered == 0:
        return {"dice": both_absent, "iou": both_absent, "nsd": both_absent, "hd95": 0.0, **counts}
    surfaces = Surfaces.of(truth, found, spacing)
    return {
        "dice": 2 * both / (given + answered),
        "iou": both / (given + answered - both),
        "nsd": surfaces.nsd(tolerance),
        "hd95": surfaces.hausdorff(95),
        **counts,
    }

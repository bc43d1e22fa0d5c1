"""Boxes as arrays: their formats and how much they overlap. NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def corners(boxes: Any) -> Array:
    """(n, 4) of centre, width and height to x1, y1, x2, y2."""
    values = np.asarray(boxes, np.float64).reshape(-1, 4)
    half = values[:, 2:] / 2
    return np.concatenate([values[:, :2] - half, values[:, :2] + half], 1)


def centres(boxes: Any) -> Array:
    """(n, 4) of x1, y1, x2, y2 to centre, width and height."""
    values = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([(values[:, :2] + values[:, 2:]) / 2, values[:, 2:] - values[:, :2]], 1)


def areas(boxes: Any) -> Array:
    """(n) of (n, 4) corners."""
    values = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides: Array = np.maximum(values[:, 2:] - values[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def overlaps(found: Any, truth: Any, crowd: Any = None) -> Array:
    """(n, m): IoU of (n, 4) and (m, 4) corners, 0 for boxes without an area.

    crowd: bool (m), boxes around many objects, with which it is the share of the found box that lies inside.
    """
    a, b = np.asarray(found, np.float64).reshape(-1, 4), np.asarray(truth, np.float64).reshape(-1, 4)
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    sides = np.maximum(sides, 0)
    common = sides[..., 0] * sides[..., 1]  # (n, m)
    own = areas(a)[:, None]
    union = own + areas(b)[None] - common
    if crowd is not None:
        union = np.where(np.asarray(crowd, bool)[None], own, union)
    shares: Array = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares

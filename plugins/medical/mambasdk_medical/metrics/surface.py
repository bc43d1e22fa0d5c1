"""Distances between the surfaces of two masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Distances = npt.NDArray[np.float64]

_ROUNDING = 1e-9  # a distance that equals the tolerance in decimals is within it


@dataclass(frozen=True)
class Surfaces:
    """Surface elements of two masks and how far each lies from the other surface.

    A surface element is a pixel or voxel of the mask with a neighbour along an axis that is not in it; what lies beyond
    the image's edge is not in it. truth_to_found, found_to_truth: float64, in the unit of `spacing`, one for each
    surface element of the first to the nearest one of the second; infinite where the second has none.
    """

    truth_to_found: Distances
    found_to_truth: Distances

    @classmethod
    def of(cls, truth: Mask, found: Mask, spacing: Sequence[float]) -> Surfaces:
        """Those of bool masks of one shape (*S); spacing: of the axes, such as millimetres a voxel."""
        box = _around(truth | found)
        first, second = border(truth[box]), border(found[box])
        return cls(_distances(first, second, spacing), _distances(second, first, spacing))

    def nsd(self, tolerance: float) -> float:
        """Normalised surface distance: the share of both surfaces that lies within `tolerance` of the other.

        NaN where neither mask has a surface. Source: arXiv 1809.04430, with surface voxels for its surface elements.
        """
        total = self.truth_to_found.size + self.found_to_truth.size
        if total == 0:
            return float("nan")
        limit = tolerance * (1 + _ROUNDING)
        near = (self.truth_to_found <= limit).sum() + (self.found_to_truth <= limit).sum()
        return float(near / total)

    def hausdorff(self, percentile: float = 95.0) -> float:
        """The percentile of the distances of both surfaces together; NaN where one mask is empty."""
        if self.truth_to_found.size == 0 or self.found_to_truth.size == 0:
            return float("nan")
        return float(np.percentile(np.concatenate([self.truth_to_found, self.found_to_truth]), percentile))


def border(mask: Mask) -> Mask:
    """The elements of a mask that have a neighbour along an axis outside it."""
    inner = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1), border_value=0)
    surface: Mask = mask & ~inner
    return surface


def _distances(of: Mask, to: Mask, spacing: Sequence[float]) -> Distances:
    if not to.any():
        return np.full(int(of.sum()), np.inf)
    distance: Distances = ndimage.distance_transform_edt(~to, sampling=spacing)[of]
    return distance


def _around(mask: Mask) -> tuple[slice, ...]:
    """The smallest box with all of the mask, and one element more on every side where there is one."""
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return (slice(0, 0),) * mask.ndim
    return tuple(
        slice(max(side.start - 1, 0), min(side.stop + 1, extent))
        for side, extent in zip(boxes[0], mask.shape, strict=True)
    )

"""Patches of prepared cases, some of them around foreground, as a function of a random generator alone. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk_medical.data.labels import Labels
from mambasdk_medical.preprocessing.store import PreparedCase

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int16]
FOREGROUND = 0.33  # of a batch's patches, at least one, that show some class


class PatchSampler:
    """Draws patches (C, *size) with their labels (*size) from cases.

    size: in voxels, (H, W) of slices or (D, H, W). outside: the label of voxels beyond an image: the ignore label where
    there is one, else the background, whose intensity there is 0. foreground: share of the patches of a batch, rounded,
    which show a voxel of a class that is drawn first among those of the case. Source: nnU-Net v2's data loaders.
    """

    def __init__(
        self, cases: Sequence[PreparedCase], size: Sequence[int], labels: Labels, *, foreground: float = FOREGROUND
    ) -> None:
        self.cases = list(cases)
        self.size = tuple(size)
        self.labels = labels
        self.foreground = foreground
        self._outside = 0 if labels.ignore is None else labels.ignore

    def is_forced(self, row: int, batch: int) -> bool:
        """Whether a row of a batch shows foreground: the last ones do."""
        return not row < round(batch * (1 - self.foreground))

    def draw(
        self, chance: np.random.Generator, case: PreparedCase, *, forced: bool, size: Sequence[int] | None = None
    ) -> tuple[Floats, Integers]:
        """One patch of a case; `size` in place of the sampler's own, for what is cropped after it is turned."""
        wanted = self.size if size is None else tuple(size)
        centre = self._centre(chance, case, forced)
        image, labels = case.image, case.labels
        if len(wanted) == 2:
            slice_ = int(chance.integers(labels.shape[0])) if centre is None else int(centre[0])
            image, labels = image[:, slice_], labels[slice_]
            centre = None if centre is None else centre[1:]
        starts = []
        for axis, (extent, part) in enumerate(zip(labels.shape, wanted, strict=True)):
            # The patch's whole size may lie outside where the image is smaller: then it lies in the middle.
            low, high = (0, extent - part) if extent >= part else (-((part - extent) // 2),) * 2
            if centre is None:
                starts.append(int(chance.integers(low, high + 1)))
            else:
                starts.append(int(np.clip(centre[axis] - part // 2, low, high)))
        return cut(image, starts, wanted, 0.0), cut(labels[None], starts, wanted, self._outside)[0]

    def _centre(self, chance: np.random.Generator, case: PreparedCase, forced: bool) -> npt.NDArray[np.int32] | None:
        """A voxel that the patch shows; None for anywhere."""
        classes = [name for name in case.locations if name != "annotated"]
        if not forced or not classes:
            # Patches without any annotated voxel teach nothing.
            classes = ["annotated"] if "annotated" in case.locations else []
        if not classes:
            return None
        places = case.locations[classes[int(chance.integers(len(classes)))]]
        found: npt.NDArray[np.int32] = places[int(chance.integers(len(places)))]
        return found


def cut(array: npt.NDArray[Any], starts: Sequence[int], size: Sequence[int], fill: float) -> npt.NDArray[Any]:
    """A window (C, *size) of (C, *S) that may reach beyond it, where it holds `fill`."""
    made = np.full((array.shape[0], *size), fill, array.dtype)
    source, target = [slice(None)], [slice(None)]
    for start, part, extent in zip(starts, size, array.shape[1:], strict=True):
        first, last = max(start, 0), min(start + part, extent)
        source.append(slice(first, max(last, first)))
        target.append(slice(first - start, max(last, first) - start))
    made[tuple(target)] = array[tuple(source)]
    return made

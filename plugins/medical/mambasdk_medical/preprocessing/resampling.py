"""When an axis is resampled by itself, and how images, labels and logits are resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk_medical import volumes


def new_shape(
    shape: Sequence[int], old: Sequence[float], new: Sequence[float] | npt.NDArray[np.float64]
) -> tuple[int, ...]:
    """Extents of a volume after resampling from spacing `old` to `new`."""
    return tuple(
        max(round(float(before) / float(after) * extent), 1)
        for extent, before, after in zip(shape, old, new, strict=True)
    )


@dataclass(frozen=True)
class Resampling:
    """Orders of the B-splines, in the plane and along a much coarser axis (`_z`); anisotropy: above which it is one."""

    image_order: int = 3
    image_order_z: int = 0
    logits_order: int = 1
    logits_order_z: int = 0
    anisotropy: float = 3.0

    def to_json(self) -> dict[str, Any]:
        """As head options have it."""
        return asdict(self)

    def axis(self, current: Sequence[float], target: Sequence[float], *, planes: bool = False) -> int | None:
        """The axis that is resampled by itself: the one coarsest axis of the source, else of the target.

        planes: of a network for slices, whose first axis is never mixed.
        """
        if planes:
            return 0
        for spacing in (current, target):
            if max(spacing) / min(spacing) > self.anisotropy:
                coarsest = [axis for axis, value in enumerate(spacing) if value == max(spacing)]
                return coarsest[0] if len(coarsest) == 1 else None
        return None

    def images(
        self, volume: npt.NDArray[np.float32], shape: Sequence[int], axis: int | None
    ) -> npt.NDArray[np.float32]:
        """(C, *S) to (C, *shape)."""
        return volumes.resample(volume, shape, self.image_order, self.image_order_z, axis)

    def logits(
        self, volume: npt.NDArray[np.float32], shape: Sequence[int], axis: int | None
    ) -> npt.NDArray[np.float32]:
        """(C, *S) to (C, *shape)."""
        return volumes.resample(volume, shape, self.logits_order, self.logits_order_z, axis)

    def labels(self, labels: npt.NDArray[np.int16], shape: Sequence[int], axis: int | None) -> npt.NDArray[np.int16]:
        """(*S) to (*shape): each label by itself, linearly; a voxel gets the last label that has half of it or more."""
        if labels.shape == tuple(shape):
            return labels.copy()
        made = np.zeros(tuple(shape), np.int16)
        for value in np.unique(labels):
            one = (labels == value).astype(np.float32)[None]
            made[volumes.resample(one, shape, self.logits_order, self.logits_order_z, axis)[0] >= 0.5] = value
        return made

"""The part of an image that is not empty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage


@dataclass(frozen=True)
class Cropped:
    """image: float32 (C, *box). mask: bool (*box), where any channel is not 0, with its holes filled. box: of the image."""

    image: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    box: tuple[slice, ...]


def crop_to_nonzero(image: npt.NDArray[np.float32]) -> Cropped:
    """Crop (C, D, H, W) to the smallest box with every voxel that is not 0 in some channel; all of an empty image."""
    filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes((image != 0).any(0))
    found = ndimage.find_objects(filled.astype(np.int8), 1)
    box = found[0] if found and found[0] is not None else tuple(slice(0, extent) for extent in filled.shape)
    mask = filled[box] if filled.any() else np.ones_like(filled)
    return Cropped(image[(slice(None), *box)], mask, box)

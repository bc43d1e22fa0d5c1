"""Image files as pixels of one size: decoded once, and kept while they fit. No torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.processors import ImageProcessor

if TYPE_CHECKING:
    from typing_extensions import Self

_GEOMETRY = ("image_size", "image_transform")


class ImageFiles:
    """Images of one size as uint8 (N, H, W, 3), prepared as the package's processor does but not normalised.

    entry: the package's processor entry. budget: bytes of decoded images to keep.
    """

    def __init__(self, files: Sequence[Path], entry: Mapping[str, Any], budget: int = 2 << 30) -> None:
        options = {name: value for name, value in entry.items() if name not in ("kind", "mean", "std")}
        self.files = list(files)
        self._prepare = ImageProcessor(**{**options, "layout": "channels_last"})
        self._kept: dict[int, npt.NDArray[np.uint8]] = {}
        self._geometry: dict[int, dict[str, Any]] = {}
        self._budget = budget

    def __len__(self) -> int:
        return len(self.files)

    def only(self, indices: Sequence[int]) -> Self:
        """Those of `indices`, with what is decoded of them."""
        if list(indices) == list(range(len(self.files))):
            return self
        kept = copy.copy(self)
        kept.files = [self.files[index] for index in indices]
        places = list(enumerate(indices))
        kept._kept = {new: self._kept[old] for new, old in places if old in self._kept}
        kept._geometry = {new: self._geometry[old] for new, old in places if old in self._geometry}
        return kept

    def take(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """uint8 (len(indices), H, W, 3). Raises InvalidArgumentError that names a file that cannot be read."""
        return np.stack([self._one(int(index)) for index in indices])

    def geometry(self, index: int) -> dict[str, Any]:
        """`image_size` and `image_transform` of an image, as ImageProcessor gives them."""
        if index not in self._geometry:
            self._one(index)
        return self._geometry[index]

    def _one(self, index: int) -> npt.NDArray[np.uint8]:
        if index in self._kept:
            return self._kept[index]
        path = self.files[index]
        try:
            made = self._prepare(path)
        except (ValueError, OSError, RuntimeError) as error:
            raise InvalidArgumentError(str(error), where=str(path)) from error
        self._geometry[index] = {name: made[name] for name in _GEOMETRY}
        samples = made["image"][0]  # float32 (H, W, 3), whole 255ths
        pixels: npt.NDArray[np.uint8] = np.rint(samples * 255).astype(np.uint8)
        if (len(self._kept) + 1) * pixels.nbytes <= self._budget:
            self._kept[index] = pixels
        return pixels

"""The pixels of labelled images at the size of the model, with their boxes in pixels. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.training.readable import readable
from mambasdk_vision.detection.boxes import Array, corners
from mambasdk_vision.detection.data import DetectionData
from mambasdk_vision.images import ImageFiles

Image = npt.NDArray[np.uint8]
_BUDGET = 2 << 30


class LabelledPixels:
    """Images as the package's processor letterboxes them, kept while they fit, and what is found in them.

    entry: the package's processor entry, with resize "letterbox". budget: bytes of decoded images to keep.
    """

    def __init__(self, data: DetectionData, entry: Mapping[str, Any], budget: int = _BUDGET) -> None:
        self.data = data
        self.size = _sides(entry["size"])
        self._files = ImageFiles(data.files, entry, budget)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def fit(self) -> bool:
        """Whether all images fit into the budget."""
        return len(self) * 3 * self.size[0] * self.size[1] <= _BUDGET

    def letterboxed(self, indices: npt.NDArray[np.int64]) -> Image:
        """uint8 (len(indices), H, W, 3). Raises InvalidArgumentError that names a file that cannot be read."""
        return self._files.take(indices)

    def geometry(self, index: int) -> dict[str, Any]:
        """`image_size` and `image_transform` of an image, which the head `object_detection` takes."""
        return self._files.geometry(index)

    def content(self, index: int) -> tuple[Image, Array]:
        """An image without its borders, (h, w, 3), and its targets (n, 5): class, x1, y1, x2, y2 in its pixels."""
        whole = self._files.take(np.array([index]))[0]
        scale_x, scale_y, offset_x, offset_y = self.geometry(index)["image_transform"]
        height, width = self.geometry(index)["image_size"]
        top, left = round(-offset_y / scale_y), round(-offset_x / scale_x)
        pixels = whole[top : top + round(height / scale_y), left : left + round(width / scale_x)]
        targets = self.data.images[index].targets()
        sides = np.array([pixels.shape[1], pixels.shape[0]] * 2)
        return pixels, np.concatenate([targets[:, :1], corners(targets[:, 1:]) * sides], 1)

    def only(self, indices: list[int]) -> LabelledPixels:
        """Those of `indices`, with what is decoded of them."""
        kept = object.__new__(LabelledPixels)
        kept.data, kept.size, kept._files = self.data.take(indices), self.size, self._files.only(indices)
        return kept


def readable_pixels(parts: list[LabelledPixels], *, skip_bad: bool) -> list[LabelledPixels]:
    """The parts whose images can all be decoded; where they do not fit into memory their heads alone were checked.

    Raises InvalidArgumentError that names every file that cannot be decoded; skip_bad leaves these out.
    """
    found = []
    for part in parts:
        if not part.fit:
            found.append(part)
            continue
        good = readable(
            part.data.files, lambda index, part=part: part.letterboxed(np.array([index])), skip_bad=skip_bad,  # type: ignore[misc]
            what="images",
        )  # fmt: skip
        found.append(part.only(good))
    return found


def _sides(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

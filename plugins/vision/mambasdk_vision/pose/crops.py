"""Crops of the people of a data set, as the package's processor makes them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.training.readable import readable
from mambasdk_vision.pose.augmentation import Array, CropAugmentation, composed, undone
from mambasdk_vision.pose.coco import PoseData
from mambasdk_vision.processors import PersonCrop
from mambasdk_vision.training.images import ImageFiles

Indices = npt.NDArray[np.int64]


class PersonCrops:
    """The people to train on of a data set; images are decoded once and kept while they fit.

    entry: the package's processor entry. data: without the images that cannot be read, if skip_bad is set; else
    InvalidArgumentError names all of them.
    """

    def __init__(self, data: PoseData, entry: Mapping[str, Any], *, skip_bad: bool = False) -> None:
        self._crop = PersonCrop(**{name: value for name, value in entry.items() if name != "kind"})
        images = ImageFiles(data.files, {"kind": "image", "resize": "none"})
        affines: dict[int, Array] = {}

        def read(image: int) -> None:
            rows = np.flatnonzero((data.image == image) & ~data.ignored)
            made = self._crop(images.take(np.array([image]))[0], data.boxes[rows].astype(np.float32))
            affines.update(zip(rows.tolist(), made["affines"].reshape(-1, 2, 3), strict=True))

        good = readable(data.files, read, skip_bad=skip_bad, what="images")
        people = [int(row) for row in data.people() if data.image[row] in set(good)]
        self._images = images.only(good)
        self.data = data.of_images(good)
        self.people = self.data.people()  # in the order of `people`
        self._affines = np.stack([affines[row] for row in people])  # (people, 2, 3), from crops to images
        height, width = entry["size"]
        self.size: tuple[int, int] = (height, width)
        self.keypoints = self.data.keypoints[self.people].copy()  # (people, K, 3), x and y in crops
        self.keypoints[..., :2] = undone(self._affines, self.keypoints[..., :2])

    def __len__(self) -> int:
        return len(self.people)

    def take(self, indices: Indices) -> dict[str, Any]:
        """The crops of these people, as PersonCrop gives them."""
        return self._made(indices, self._affines[indices])

    def augmented(
        self, indices: Indices, augmentation: CropAugmentation, seed: int, step: int, rank: int = 0
    ) -> tuple[npt.NDArray[np.float32], Array]:
        """Crops float32 (n, 3, H, W) of these people and their keypoints (n, K, 3) in them."""
        keypoints = self.keypoints[indices]
        keypoint_set = self.data.keypoint_set
        maps, flipped = augmentation(keypoints, self.size, keypoint_set.upper_body, seed, step, rank)
        keypoints[..., :2] = undone(maps, keypoints[..., :2])
        keypoints[flipped] = keypoints[flipped][:, keypoint_set.partners]
        return self._made(indices, composed(self._affines[indices], maps))["image"], keypoints

    def _made(self, indices: Indices, affines: Array) -> dict[str, Any]:
        parts = []
        for index, affine in zip(indices, affines, strict=True):
            pixels = self._images.take(self.data.image[self.people[index]][None])[0]
            parts.append(self._crop(pixels, affines=affine.reshape(1, 6)))
        names = ("image", "affines", "boxes", "box_scores")
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

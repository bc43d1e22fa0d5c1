"""Crops of the people of a data set, or its whole images, as the package's processor makes them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mambasdk.training.readable import readable
from mambasdk_vision.images import ImageFiles
from mambasdk_vision.pose.augmentation import Array, CropAugmentation, composed, undone
from mambasdk_vision.pose.coco import PoseData
from mambasdk_vision.processors import PersonCrop

Indices = npt.NDArray[np.int64]


class _Crops:
    """Crops of a data set's images by affine maps; images are decoded once and kept while they fit."""

    unit: ClassVar[str]

    def __init__(self, data: PoseData, entry: Mapping[str, Any], *, skip_bad: bool = False) -> None:
        """entry: the package's processor entry. skip_bad: leave out the images that cannot be read, instead of an
        InvalidArgumentError that names all of them.
        """
        self._crop = PersonCrop(**{name: value for name, value in entry.items() if name != "kind"})
        images = ImageFiles(data.files, {"kind": "image", "resize": "none"})
        affines: dict[int, Array] = {}

        def read(image: int) -> None:
            boxes = self._boxes(data, image)
            affines[image] = self._crop(images.take(np.array([image]))[0], boxes)["affines"].reshape(-1, 2, 3)

        good = readable(data.files, read, skip_bad=skip_bad, what="images")
        self._images = images.only(good)
        self.data = data.of_images(good)
        self._affines = np.concatenate([affines[image] for image in good])  # (crops, 2, 3), from crops to images
        height, width = entry["size"]
        self.size: tuple[int, int] = (height, width)

    def _boxes(self, data: PoseData, image: int) -> Any:
        """The boxes of an image's crops; None: the whole image is one."""
        raise NotImplementedError

    def _image(self, crop: int) -> int:
        """The image that a crop is of."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._affines)

    def take(self, indices: Indices) -> dict[str, Any]:
        """These crops, as PersonCrop gives them."""
        return self._made(indices, self._affines[indices])

    def _made(self, indices: Indices, affines: Array) -> dict[str, Any]:
        parts = []
        for index, affine in zip(indices, affines, strict=True):
            pixels = self._images.take(np.array([self._image(int(index))]))[0]
            parts.append(self._crop(pixels, affines=affine.reshape(1, 6)))
        names = ("image", "affines", "boxes", "box_scores")
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


class PersonCrops(_Crops):
    """The people to train on of a data set, each by its box."""

    unit = "people"

    def __init__(self, data: PoseData, entry: Mapping[str, Any], *, skip_bad: bool = False) -> None:
        super().__init__(data, entry, skip_bad=skip_bad)
        # Crops are in the order of the images; people may be in any.
        people = self.data.people()
        self.people = people[np.argsort(self.data.image[people], kind="stable")]
        self.keypoints = self.data.keypoints[self.people].copy()  # (people, K, 3), x and y in crops
        self.keypoints[..., :2] = undone(self._affines, self.keypoints[..., :2])

    def _boxes(self, data: PoseData, image: int) -> Any:
        return data.boxes[(data.image == image) & ~data.ignored].astype(np.float32)

    def _image(self, crop: int) -> int:
        return int(self.data.image[self.people[crop]])

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


class WholeImages(_Crops):
    """The images of a data set, each with all its people; `keypoints` has (people, K, 3) of every image."""

    unit = "images"

    def __init__(self, data: PoseData, entry: Mapping[str, Any], *, skip_bad: bool = False) -> None:
        super().__init__(data, entry, skip_bad=skip_bad)
        own = [self.data.keypoints[(self.data.image == i) & ~self.data.ignored] for i in range(len(self))]
        self.keypoints = [self._moved(people, affine) for people, affine in zip(own, self._affines, strict=True)]

    def _boxes(self, data: PoseData, image: int) -> Any:
        return None

    def _image(self, crop: int) -> int:
        return crop

    def augmented(
        self, indices: Indices, augmentation: CropAugmentation, seed: int, step: int, rank: int = 0
    ) -> tuple[npt.NDArray[np.float32], list[Array]]:
        """Images float32 (n, 3, H, W) and the keypoints (people, K, 3) in each."""
        maps, flipped = augmentation(np.zeros((len(indices), 1, 3)), self.size, [], seed, step, rank)
        partners = self.data.keypoint_set.partners
        keypoints = [self._moved(self.keypoints[i], one) for i, one in zip(indices, maps, strict=True)]
        keypoints = [p[:, partners] if turned else p for p, turned in zip(keypoints, flipped, strict=True)]
        return self._made(indices, composed(self._affines[indices], maps))["image"], keypoints

    @staticmethod
    def _moved(people: Array, affine: Array) -> Array:
        moved: Array = people.copy()
        moved[..., :2] = undone(np.repeat(affine[None], len(people), 0), people[..., :2])
        return moved

"""Images and masks of the same names on disk. Both are decoded once and kept while they fit. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.training.readable import readable
from mambasdk_vision.images import ImageFiles
from mambasdk_vision.plugin import SUFFIXES
from mambasdk_vision.processors import MaskProcessor

IGNORE = 255  # pixels of a mask that have no class
_MASK_FOLDERS = ("masks", "annotations")
_TRAIN, _HELD_OUT = ("train", "training"), ("val", "validation")
Indices = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageMasks:
    """images, masks: paths of pairs; a mask need not exist. strays: masks without an image."""

    images: list[Path]
    masks: list[Path]
    strays: list[Path]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> ImageMasks:
        """The pairs of these indices, in their order, without strays."""
        return ImageMasks([self.images[i] for i in indices], [self.masks[i] for i in indices], [])


def read_pairs(root: str | os.PathLike[str]) -> tuple[ImageMasks, ImageMasks | None]:
    """(to train on, held out or None) of a folder with `images` and `masks`, which may be called `annotations`.

    A mask is a PNG with the name of its image. Where both folders have a folder `train` or `training`, that is trained
    on, and what is in `val` or `validation` is held out; else all is trained on.
    Raises InvalidArgumentError where these folders or the images are missing.
    """
    folder = Path(root).expanduser()
    images, masks = folder / "images", next((folder / n for n in _MASK_FOLDERS if (folder / n).is_dir()), None)
    if masks is None or not images.is_dir():
        raise InvalidArgumentError(
            "no folders of images and masks",
            where=str(folder),
            expected="images/ and masks/ with files of the same names, such as images/1.jpg and masks/1.png",
        )
    train = next((name for name in _TRAIN if (images / name).is_dir()), None)
    if train is None:
        return _pairs(images, masks), None
    held_out = next((name for name in _HELD_OUT if (images / name).is_dir()), None)
    rest = None if held_out is None else _pairs(images / held_out, masks / held_out)
    return _pairs(images / train, masks / train), rest


def read_labels(root: str | os.PathLike[str]) -> list[str] | None:
    """Names of the classes: the lines of `labels.txt` in the folder, None where there is no such file."""
    file = Path(root).expanduser() / "labels.txt"
    if not file.is_file():
        return None
    return [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]


def split_pairs(data: ImageMasks, held_out: float, seed: int) -> tuple[ImageMasks, ImageMasks]:
    """(to train on, held out): the share `held_out` at random, at least one pair each."""
    if not 0 < held_out < 1:
        raise InvalidArgumentError("bad share", where="held_out", expected="between 0 and 1", got=held_out)
    if len(data) < 2:
        raise InvalidArgumentError(f"{len(data)} image", where="held_out", expected="two or more")
    order = np.random.default_rng(seed).permutation(len(data))
    count = min(max(round(held_out * len(data)), 1), len(data) - 1)
    train = data.take(np.sort(order[count:]))
    return ImageMasks(train.images, train.masks, data.strays), data.take(np.sort(order[:count]))


class SegmentedImages:
    """Images of one size, as ImageFiles, and their masks.

    entry: the package's processor entry. classes: how many there are; None: as many as the largest index says.
    reduce_zero_label: index 0 of a file is no class, 1 is the first (ADE20K). budget: bytes of images, and of masks, to
    keep.
    """

    def __init__(
        self,
        data: ImageMasks,
        entry: Mapping[str, Any],
        *,
        classes: int | None = None,
        reduce_zero_label: bool = False,
        budget: int = 1 << 30,
    ) -> None:
        self.data = data
        self.images = ImageFiles(data.images, entry, budget)
        self._read = MaskProcessor()
        self._masks: dict[int, Indices] = {}
        self._held = 0  # bytes in self._masks
        self._classes, self._reduce, self._budget = classes, reduce_zero_label, budget

    def __len__(self) -> int:
        return len(self.data)

    def only(self, indices: Sequence[int]) -> SegmentedImages:
        """The pairs of `indices`, with what is decoded of them."""
        kept = SegmentedImages.__new__(SegmentedImages)
        kept.__dict__.update(self.__dict__)
        kept.data, kept.images = self.data.take(indices), self.images.only(indices)
        kept._masks = {new: self._masks[old] for new, old in enumerate(indices) if old in self._masks}
        return kept

    def check(self, index: int) -> int:
        """Decode a pair; returns the largest index of its mask, -1 for none but IGNORE.

        Raises InvalidArgumentError for files that cannot be read, a mask of another size, and an index that is no
        class.
        """
        path = self.data.masks[index]
        height, width = self.images.geometry(index)["image_size"]
        if not path.is_file():
            raise InvalidArgumentError("it has no mask", expected=str(path))
        mask = self.mask(index)
        if mask.shape != (height, width):
            raise InvalidArgumentError(
                f"the mask {path.name} has another size than its image",
                expected=f"{width} x {height}",
                got=f"{mask.shape[1]} x {mask.shape[0]}",
            )
        present = mask[mask != IGNORE]
        largest = int(present.max()) if present.size else -1
        if self._classes is not None and largest >= self._classes:
            shift = int(self._reduce)
            raise InvalidArgumentError(
                f"the mask {path.name} holds index {largest + shift}",
                expected=f"{shift} to {self._classes - 1 + shift}, of {self._classes} classes, or {IGNORE} to ignore",
            )
        return largest

    def mask(self, index: int) -> Indices:
        """uint8 (H, W) of the original image, IGNORE where there is no class."""
        if index in self._masks:
            return self._masks[index]
        path = self.data.masks[index]
        try:
            mask: Indices = np.asarray(self._read(path))
        except (ValueError, OSError, RuntimeError) as error:
            raise InvalidArgumentError(f"{path.name}: {error}") from error
        if self._reduce:
            mask = np.where(mask == IGNORE, mask, mask - np.uint8(1))  # 0 becomes 255
        if self._held + mask.nbytes <= self._budget:
            self._masks[index] = mask
            self._held += mask.nbytes
        return mask

    def take(self, indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], Indices]:
        """Images uint8 (n, H, W, 3) of the model's size, and masks uint8 (n, H, W) at the centres of their pixels."""
        images = self.images.take(indices)
        height, width = images.shape[1:3]
        masks = [self._sampled(int(index), height, width) for index in indices]
        return images, np.stack(masks)

    def _sampled(self, index: int, height: int, width: int) -> Indices:
        mask = self.mask(index)
        scale_x, scale_y, offset_x, offset_y = self.images.geometry(index)["image_transform"]
        rows = np.floor((np.arange(height) + 0.5) * scale_y + offset_y).astype(np.int64)
        columns = np.floor((np.arange(width) + 0.5) * scale_x + offset_x).astype(np.int64)
        rows, columns = rows.clip(0, mask.shape[0] - 1), columns.clip(0, mask.shape[1] - 1)
        sampled: Indices = mask[rows[:, None], columns]
        return sampled


def readable_pairs(parts: Sequence[SegmentedImages], *, skip_bad: bool) -> tuple[list[SegmentedImages], int]:
    """The parts where every pair is sound, else (skip_bad) with those that are, and the number of classes.

    Raises InvalidArgumentError that names every fault: images without a mask and masks without an image, files that
    cannot be read, sizes that differ, indices that are no class; or a part of which nothing is left.
    """
    places = [(part, index) for part in parts for index in range(len(part))]
    strays = [(part, path) for part in parts for path in part.data.strays]
    files = [part.data.images[index] for part, index in places] + [path for _, path in strays]
    largest = -1

    def read(number: int) -> object:
        nonlocal largest
        if number >= len(places):
            raise InvalidArgumentError("the mask has no image")
        part, index = places[number]
        largest = max(largest, part.check(index))
        return None

    good = set(readable(files, read, skip_bad=skip_bad, what="images and masks"))
    found, first = [], 0
    for part in parts:
        count = len(part)
        kept = [index for index in range(count) if first + index in good]
        if not kept:
            raise InvalidArgumentError("no image with a sound mask is left", where="--data")
        found.append(part.only(kept))
        first += count
    return found, largest + 1


def _pairs(images: Path, masks: Path) -> ImageMasks:
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise InvalidArgumentError("no PNG or JPEG file", where=str(images))
    expected = [masks / path.relative_to(images).with_suffix(".png") for path in files]
    if len(set(expected)) < len(expected):
        twice = next(path for path in expected if expected.count(path) > 1)
        raise InvalidArgumentError(f"two images for the mask {twice.name}", where=str(images))
    strays = sorted(path for path in set(masks.rglob("*.png")) - set(expected) if path.is_file())
    return ImageMasks(files, expected, strays)

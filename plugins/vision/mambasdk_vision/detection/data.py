"""Images with labelled boxes, whatever the file format: what readers give and training takes. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.training.readable import leave_out
from mambasdk_vision.detection.boxes import Array

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledImage:
    """One image and its objects.

    size: height and width in pixels. classes: int64 (n). boxes: float64 (n, 4), centre, width and height as shares of
    the image. crowd: bool (n), boxes around many objects (COCO's iscrowd). difficult: bool (n) (Pascal VOC). Neither is
    trained on, nor to be found, nor wrong when it is found. areas: square pixels of the objects where the file tells,
    NaN elsewhere.
    """

    file: Path
    size: tuple[int, int]
    classes: npt.NDArray[np.int64]
    boxes: Array
    crowd: Flags
    difficult: Flags
    areas: Array

    @classmethod
    def of(cls, file: Path, size: tuple[int, int], objects: Sequence[Labelled]) -> LabelledImage:
        """From its objects."""
        return cls(
            file,
            size,
            np.array([one.index for one in objects], np.int64),
            np.array([one.box for one in objects], np.float64).reshape(-1, 4),
            np.array([one.crowd for one in objects], bool),
            np.array([one.difficult for one in objects], bool),
            np.array([one.area for one in objects], np.float64),
        )

    def targets(self) -> Array:
        """(n, 5): class, centre, width and height of the objects to learn."""
        learnt = ~(self.crowd | self.difficult)
        return np.concatenate([self.classes[learnt, None].astype(np.float64), self.boxes[learnt]], 1)


@dataclass(frozen=True)
class Labelled:
    """One object, as LabelledImage has many."""

    index: int
    box: tuple[float, float, float, float]
    crowd: bool = False
    difficult: bool = False
    area: float = float("nan")


@dataclass(frozen=True)
class DetectionData:
    """images: with their objects. classes: names, by index. empty_boxes: how many boxes of no size were dropped."""

    images: list[LabelledImage]
    classes: list[str]
    empty_boxes: int = 0

    def __len__(self) -> int:
        return len(self.images)

    @property
    def files(self) -> list[Path]:
        """Of the images."""
        return [image.file for image in self.images]

    @property
    def objects(self) -> int:
        """To learn, or to be found."""
        return sum(int((~(image.crowd | image.difficult)).sum()) for image in self.images)

    def take(self, indices: Sequence[int]) -> DetectionData:
        """The images of these indices, in their order."""
        return DetectionData([self.images[index] for index in indices], self.classes, self.empty_boxes)


def split(data: DetectionData, held_out: float, seed: int) -> tuple[DetectionData, DetectionData]:
    """(to train on, held out): the share `held_out` of the images at random, one at least.

    Raises InvalidArgumentError for a share outside 0 to 1, or fewer than two images.
    """
    if not 0 < held_out < 1:
        raise InvalidArgumentError("bad share", where="--held-out", expected="between 0 and 1", got=held_out)
    if len(data) < 2:
        raise InvalidArgumentError(f"{len(data)} images", where="--held-out", expected="two or more")
    order = np.random.default_rng(seed).permutation(len(data))
    count = min(max(round(held_out * len(data)), 1), len(data) - 1)
    return data.take(np.sort(order[count:]).tolist()), data.take(np.sort(order[:count]).tolist())


@dataclass
class Collected:
    """What a reader has found so far: images, what is wrong, and boxes of no size, which are dropped."""

    classes: list[str]
    images: list[LabelledImage] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    empty_boxes: int = 0
    seen: int = 0

    def box(self, values: Sequence[float], size: tuple[float, float] = (1.0, 1.0)) -> tuple[float, ...] | None:
        """Centre, width and height as shares of the image, cut off at its edge; None for a box of no size.

        values: centre, width and height in the unit of `size`, the image's height and width. Raises ValueError where
        they are no box in that image; a hundredth of it outside passes.
        """
        height, width = size
        x, y, w, h = (float(value) / unit for value, unit in zip(values, (width, height, width, height), strict=True))
        if not np.isfinite([x, y, w, h]).all():
            raise ValueError("not all numbers are finite")
        if w < 0 or h < 0:
            raise ValueError(f"a box of negative size ({values[2]:g} x {values[3]:g})")
        edges = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        if min(edges) < -_OUTSIDE or max(edges) > 1 + _OUTSIDE:
            raise ValueError(f"a box outside the image: {' '.join(f'{edge:.4g}' for edge in edges)} of its sides")
        x1, y1, x2, y2 = np.clip(edges, 0.0, 1.0).tolist()
        if not (x2 > x1 and y2 > y1):
            self.empty_boxes += 1
            return None
        return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1

    def finish(self, where: str, *, skip_bad: bool) -> DetectionData:
        """The data. Raises InvalidArgumentError that names all that is wrong, unless `skip_bad`, and where no image is
        left.
        """
        leave_out(self.wrong, max(self.seen, len(self.wrong)), "labels", "cannot be used", skip_bad=skip_bad)
        if not self.images:
            raise InvalidArgumentError("no images", where=where)
        return DetectionData(self.images, self.classes, self.empty_boxes)


_OUTSIDE = 0.01  # of a side, that a box may be over an edge: labels are rounded


def check_names(names: Any, where: str) -> list[str]:
    """Class names as a list. Raises InvalidArgumentError unless they are one or more, and distinct."""
    found = [str(name) for name in names]
    if not found:
        raise InvalidArgumentError("no class names", where=where)
    if len(set(found)) != len(found):
        twice = sorted({name for name in found if found.count(name) > 1})
        raise InvalidArgumentError(f"classes of one name: {', '.join(twice[:8])}", where=where)
    return found

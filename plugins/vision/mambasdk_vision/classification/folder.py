"""Labelled images on disk: one folder per class. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.training.readable import readable
from mambasdk_vision.images import ImageFiles
from mambasdk_vision.plugin import SUFFIXES

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class ClassFolders:
    """files: paths; labels: index into classes of each; classes: names, in order."""

    files: list[Path]
    labels: npt.NDArray[np.int64]  # (files,)
    classes: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: npt.NDArray[np.int64]) -> ClassFolders:
        """The images of these indices, in their order."""
        return ClassFolders([self.files[i] for i in indices], self.labels[indices], self.classes)


def read_folders(root: str | os.PathLike[str], classes: Sequence[str] | None = None) -> ClassFolders:
    """The PNG and JPEG files under each folder of `root`, whose names are the classes.

    classes: the names that there must be, in the order of the labels; None: every folder, sorted by name.
    Raises InvalidArgumentError where `root` has no class folders, a class no image, or a folder is no class.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise InvalidArgumentError("no such folder", where=str(folder), expected="a folder of class folders")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = found if classes is None else list(classes)
    if stray := sorted(set(found) - set(names)):
        raise InvalidArgumentError(
            f"folders that are no class: {', '.join(stray[:8])}", where=str(folder), expected=", ".join(names[:20])
        )
    if len(names) < 2:
        raise InvalidArgumentError(
            f"{len(names)} class folders",
            where=str(folder),
            expected="two or more, with PNG or JPEG files in each, such as cats/1.png and dogs/1.png",
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        images = sorted(
            path for path in (folder / name).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not images:
            raise InvalidArgumentError("a class without a PNG or JPEG file", where=str(folder / name))
        files += images
        labels += [label] * len(images)
    return ClassFolders(files, np.array(labels, np.int64), names)


def split(data: ClassFolders, held_out: float, seed: int) -> tuple[ClassFolders, ClassFolders]:
    """(to train on, held out): the share `held_out` of every class at random, at least one image of each.

    Raises InvalidArgumentError for a share outside 0 to 1, or a class of one image.
    """
    if not 0 < held_out < 1:
        raise InvalidArgumentError("bad share", where="held_out", expected="between 0 and 1", got=held_out)
    chance = np.random.default_rng(seed)
    parts: tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.int64]]] = ([], [])
    for label, name in enumerate(data.classes):
        indices = chance.permutation(np.flatnonzero(data.labels == label))
        if len(indices) < 2:
            raise InvalidArgumentError(
                f"class {name} has one image",
                where="held_out",
                expected="two or more",
                way_out="add images, or give a folder of held-out images",
            )
        count = min(max(round(held_out * len(indices)), 1), len(indices) - 1)
        parts[0].append(np.sort(indices[count:]))
        parts[1].append(np.sort(indices[:count]))
    train, rest = (data.take(np.concatenate(part)) for part in parts)
    return train, rest


class Pixels(ImageFiles):
    """The images of class folders."""

    def __init__(self, data: ClassFolders, entry: Mapping[str, Any], budget: int = 2 << 30) -> None:
        super().__init__(data.files, entry, budget)
        self.data = data

    def only(self, indices: Sequence[int]) -> Self:
        """Those of `indices`, with what is decoded of them; InvalidArgumentError where a class loses all images."""
        kept = super().only(indices)
        kept.data = self.data.take(np.array(indices, np.int64))
        lost = set(self.data.labels.tolist()) - set(kept.data.labels.tolist())
        if lost:
            names = ", ".join(self.data.classes[label] for label in sorted(lost))
            raise InvalidArgumentError(f"no image of class {names} can be read", where="--data")
        return kept


def readable_pixels(parts: Sequence[Pixels], *, skip_bad: bool) -> list[Pixels]:
    """The parts where all images can be read, else (skip_bad) with those that can; decodes all of them.

    Raises InvalidArgumentError that names every file that cannot be read, or a class of which none is left in a part.
    """
    places = [(part, index) for part in parts for index in range(len(part.data))]
    files = [part.data.files[index] for part, index in places]

    def read(number: int) -> object:
        part, index = places[number]
        return part.take(np.array([index]))

    good = set(readable(files, read, skip_bad=skip_bad, what="images"))
    found, first = [], 0
    for part in parts:
        count = len(part.data)
        found.append(part.only([i for i in range(count) if first + i in good]))
        first += count
    return found

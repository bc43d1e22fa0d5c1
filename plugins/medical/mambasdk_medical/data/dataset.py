"""A data set's folder: DatasetXXX_Name/{imagesTr,labelsTr,imagesTs,dataset.json}, as nnU-Net v2 lays it out."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.data.files import FILE_ENDINGS, read_image, read_labels
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.data.labels import Labels

DATASET_FILE = "dataset.json"
_NUMBER = re.compile(r"(?:Dataset)?(\d{1,3})")


@dataclass(frozen=True)
class Case:
    """name: without channel and ending. images: a file for each channel. labels: its label map, where there is one."""

    name: str
    images: tuple[Path, ...]
    labels: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """root: its folder. description: `dataset.json`. channel_names: of the files `_0000`, `_0001`, … in order."""

    root: Path
    description: Mapping[str, Any]
    channel_names: tuple[str, ...]
    labels: Labels
    file_ending: str

    @property
    def name(self) -> str:
        """DatasetXXX_Name."""
        return self.root.name

    def training_cases(self) -> list[Case]:
        """Cases with labels, by name. Raises InvalidArgumentError where files are missing, or `numTraining` differs."""
        if isinstance(listed := self.description.get("dataset"), Mapping):
            return [
                Case(str(name), tuple(self._listed(file) for file in entry["images"]), self._listed(entry["label"]))
                for name, entry in sorted(listed.items())
            ]
        folder = self.root / "labelsTr"
        names = sorted(self._stem(path) for path in folder.glob("*") if self._is_image(path))
        if not names:
            raise InvalidArgumentError(
                f"no labels with ending {self.file_ending!r}",
                where=str(folder),
                way_out="file_ending in dataset.json says which files are read",
            )
        count = self.description.get("numTraining")
        if count is not None and int(count) != len(names):
            raise InvalidArgumentError(
                "the number of label maps is not numTraining", where=str(self.root), expected=count, got=len(names)
            )
        found = cases_in(self.root / "imagesTr", self.file_ending, len(self.channel_names), names)
        return [Case(case.name, case.images, folder / f"{case.name}{self.file_ending}") for case in found]

    def _listed(self, file: str) -> Path:
        path = Path(file)
        return path if path.is_absolute() else (self.root / path).resolve()

    def _is_image(self, path: Path) -> bool:
        ending = path.name.endswith(self.file_ending) if self.file_ending else path.is_dir()
        return ending and not path.name.startswith(".")

    def _stem(self, path: Path) -> str:
        return path.name[: len(path.name) - len(self.file_ending)]


def open_dataset(place: str | os.PathLike[str]) -> Dataset:
    """The data set in a folder, or of a number or name under `$nnUNet_raw`.

    Raises InvalidArgumentError where `dataset.json` is missing or says nothing that can be used.
    """
    root = find_folder(place, "nnUNet_raw")
    return read_description(root / DATASET_FILE, root)


def find_folder(place: str | os.PathLike[str], variable: str) -> Path:
    """The folder itself, or the one of that number or name in the folder that an environment variable names."""
    path = Path(place).expanduser()
    base = os.environ.get(variable)
    if path.is_dir() or base is None:
        if not path.is_dir():
            raise InvalidArgumentError(
                "no such folder", where=str(place), way_out=f"give its path, or set {variable} to where it lies"
            )
        return path.resolve()
    if (Path(base) / path).is_dir():
        return (Path(base) / path).resolve()
    if match := _NUMBER.fullmatch(str(place)):
        found = sorted(Path(base).glob(f"Dataset{int(match[1]):03d}_*"))
        if len(found) == 1:
            return found[0].resolve()
    raise InvalidArgumentError("no such data set", where=f"{variable}={base}", got=str(place))


def read_description(file: Path, root: Path) -> Dataset:
    """What a `dataset.json` says; `root` is the data set's folder."""
    where = str(file)
    try:
        description = json.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise InvalidArgumentError(f"no {DATASET_FILE}", where=str(root), way_out="docs/medical.md shows one") from None
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"cannot be read as JSON: {error}", where=where) from error
    if not isinstance(description, dict):
        raise InvalidArgumentError("not an object", where=where, expected="a JSON object")
    channels = description.get("channel_names", description.get("modality"))
    if not isinstance(channels, dict) or not channels or not all(str(key).isdigit() for key in channels):
        raise InvalidArgumentError("bad channel_names", where=where, expected='{"0": "CT"}', got=channels)
    names = tuple(str(channels[key]) for key in sorted(channels, key=int))
    ending = description.get("file_ending", ".nii.gz")
    if ending not in FILE_ENDINGS:
        raise InvalidArgumentError("bad file_ending", where=where, expected=", ".join(FILE_ENDINGS), got=repr(ending))
    labels = Labels.parse(description.get("labels"), description.get("regions_class_order"), where)
    return Dataset(root, description, names, labels, ending)


def cases_in(folder: Path, ending: str, channels: int, names: list[str] | None = None) -> list[Case]:
    """The cases of a folder of images, NAME_0000ENDING and so on; names: those to find, None for all.

    A picture of three channels in one file is NAME_0000 alone. A folder with no channel numbers at all has cases of
    one file each. Raises InvalidArgumentError for a case without all of its channels.
    """
    if not folder.is_dir():
        raise InvalidArgumentError("no such folder", where=str(folder))
    found: dict[str, dict[int, Path]] = {}
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(ending)}")
    files = [path for path in sorted(folder.iterdir()) if path.name.endswith(ending) and not path.name.startswith(".")]
    for path in files:
        if match := pattern.fullmatch(path.name):
            found.setdefault(match[1], {})[int(match[2])] = path
    if not found and names is None and channels == 1:
        found = {path.name[: len(path.name) - len(ending)]: {0: path} for path in files}
    if names is None:
        names = sorted(found)
    if not names:
        raise InvalidArgumentError(
            "no images", where=str(folder), expected=f"files such as NAME_0000{ending}", got=f"{len(files)} others"
        )
    cases = []
    for name in names:
        there = found.get(name, {})
        whole = list(range(channels))
        if sorted(there) != whole and not (
            sorted(there) == [0] and channels == 3 and ending not in (".nii", ".nii.gz")
        ):
            absent = [f"{name}_{channel:04d}{ending}" for channel in whole if channel not in there]
            raise InvalidArgumentError(
                f"case {name} lacks {', '.join(absent)}"
                if absent
                else f"case {name} has more than {channels} channels",
                where=str(folder),
                expected=f"{channels} channels, as channel_names of dataset.json says",
            )
        cases.append(Case(name, tuple(there[channel] for channel in sorted(there))))
    return cases


def read_case(case: Case, dataset: Dataset) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16], Geometry]:
    """Image (C, D, H, W), labels (D, H, W) and geometry of a training case, checked against each other.

    Raises InvalidArgumentError for missing channels, grids that differ, and labels that `dataset.json` does not name.
    """
    image, geometry = read_image(case.images)
    check_channels(image, len(dataset.channel_names), case)
    if case.labels is None:
        raise InvalidArgumentError("a case without labels", where=case.name)
    labels, theirs = read_labels(case.labels)
    geometry.check_same(theirs, str(case.images[0]), f"the label map {case.labels}")
    dataset.labels.check(np.unique(labels), str(case.labels))
    return image, labels, geometry


def check_channels(image: npt.NDArray[np.float32], channels: int, case: Case) -> None:
    """Raise InvalidArgumentError where an image has another number of channels."""
    if len(image) != channels:
        raise InvalidArgumentError(
            "another number of channels", where=str(case.images[0]), expected=channels, got=len(image)
        )

"""Prepared cases on disk: NAME.npy, NAME_seg.npy, NAME_locations.npz, and one line about each in cases.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.atomic import write_text
from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.data.dataset import Case, Dataset, read_case
from mambasdk_medical.data.labels import Labels
from mambasdk_medical.plans.plans_file import Configuration
from mambasdk_medical.preprocessing.preparation import Preparation

INDEX_FILE = "cases.json"
_KEY = "of "  # before the names of classes, which may be any
_MOST_LOCATIONS = 10_000  # voxels of each class that are kept


@dataclass(frozen=True)
class PreparedCase:
    """name; image: float32 (C, *S); labels: int16 (*S); both are read from the disk where they are used.

    locations: of each class, or region, that occurs: int32 (n, axes), some of its voxels.
    """

    name: str
    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int16]
    locations: Mapping[str, npt.NDArray[np.int32]]


def preprocess(
    dataset: Dataset,
    cases: list[Case],
    configuration: Configuration,
    folder: Path,
    *,
    progress: Callable[[list[Case]], Iterable[Case]] = lambda cases: cases,
) -> list[dict[str, Any]]:
    """Prepare every case and store it in `folder`; returns what `cases.json` says."""
    preparation = Preparation.of(configuration)
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for case in progress(cases):
        image, labels, geometry = read_case(case, dataset)
        made = preparation(image, geometry, labels, str(case.images[0]))
        assert made.labels is not None
        np.save(folder / f"{case.name}.npy", made.image)
        np.save(folder / f"{case.name}_seg.npy", made.labels)
        found = foreground_locations(made.labels, dataset.labels)
        arrays: dict[str, Any] = {_KEY + name: places for name, places in found.items()}
        np.savez(folder / f"{case.name}_locations.npz", **arrays)
        index.append(
            {
                "name": case.name,
                "images": [str(path) for path in case.images],
                "labels": str(case.labels),
                "shape": list(made.image.shape[1:]),
                "voxels": {name: len(places) for name, places in found.items()},
            }
        )
    write_text(folder / INDEX_FILE, json.dumps({"preparation": preparation.to_entry(), "cases": index}, indent=1))
    return index


def foreground_locations(
    labels: npt.NDArray[np.int16], known: Labels, seed: int = 1234
) -> dict[str, npt.NDArray[np.int32]]:
    """Some voxels of every class or region that occurs, by name; "annotated" too where there is an ignore label."""
    chance = np.random.default_rng(seed)
    masks = {name: np.isin(labels, values) for name, values in known.foreground.items()}
    if known.ignore is not None:
        masks["annotated"] = labels != known.ignore
    made = {}
    for name, mask in masks.items():
        places = np.argwhere(mask).astype(np.int32)
        if len(places) > _MOST_LOCATIONS:
            places = places[np.sort(chance.choice(len(places), _MOST_LOCATIONS, replace=False))]
        if len(places):
            made[name] = places
    return made


def read_index(folder: Path, configuration: Configuration) -> list[dict[str, Any]]:
    """What is stored of each case. Raises InvalidArgumentError where nothing is, or it was prepared otherwise."""
    path = folder / INDEX_FILE
    way_out = f"`mambasdk medical preprocess DATASET -c {configuration.name}` makes it"
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InvalidArgumentError("nothing is preprocessed", where=str(folder), way_out=way_out) from None
    if content["preparation"] != json.loads(json.dumps(Preparation.of(configuration).to_entry())):
        raise InvalidArgumentError("the cases were prepared by another plan", where=str(folder), way_out=way_out)
    cases: list[dict[str, Any]] = content["cases"]
    return cases


def open_case(folder: Path, name: str) -> PreparedCase:
    """A stored case; its arrays stay on the disk until they are read."""
    with np.load(folder / f"{name}_locations.npz", allow_pickle=False) as file:
        locations = {key.removeprefix(_KEY): file[key] for key in file.files}
    return PreparedCase(
        name,
        np.load(folder / f"{name}.npy", mmap_mode="r"),
        np.load(folder / f"{name}_seg.npy", mmap_mode="r"),
        locations,
    )

"""People with keypoints in COCO's annotation format: a JSON file, and the folder of its images. No torch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.training.readable import leave_out
from mambasdk_vision.pose.keypoints import KeypointSet

Array = npt.NDArray[np.float64]
_OUTSIDE = 1.0  # pixels that a box may reach over the edge: annotators round


@dataclass(frozen=True)
class PoseData:
    """The people (n) of images.

    files: of the images. image: int64 (n), index into files. keypoints: (n, K, 3), x, y and visibility (0: not
    annotated). boxes: (n, 4), x1, y1, x2, y2. areas: (n), square pixels. ignored: bool (n), crowds and people without
    keypoints: not to train on, and neither right nor wrong when found. crowd: bool (n), many people in one box.
    """

    files: list[Path]
    keypoint_set: KeypointSet
    image: npt.NDArray[np.int64]
    keypoints: Array
    boxes: Array
    areas: Array
    ignored: npt.NDArray[np.bool_]
    crowd: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.image)

    def of_images(self, images: Sequence[int]) -> PoseData:
        """The images of these indices and their people."""
        places = {old: new for new, old in enumerate(images)}
        rows = np.flatnonzero(np.isin(self.image, list(places)))
        moved = np.array([places[int(i)] for i in self.image[rows]], np.int64)
        return PoseData(
            [self.files[i] for i in images],
            self.keypoint_set,
            moved,
            self.keypoints[rows],
            self.boxes[rows],
            self.areas[rows],
            self.ignored[rows],
            self.crowd[rows],
        )

    def people(self) -> npt.NDArray[np.int64]:
        """Indices of those to train on."""
        return np.flatnonzero(~self.ignored)


def split(data: PoseData, held_out: float, seed: int) -> tuple[PoseData, PoseData]:
    """(to train on, held out): the share `held_out` of the images at random, one at least.

    Raises InvalidArgumentError for a share outside 0 to 1, or fewer than two images with people.
    """
    if not 0 < held_out < 1:
        raise InvalidArgumentError("bad share", where="held_out", expected="between 0 and 1", got=held_out)
    images = np.unique(data.image[data.people()])
    if len(images) < 2:
        raise InvalidArgumentError(f"{len(images)} images with people", where="held_out", expected="two or more")
    order = np.random.default_rng(seed).permutation(images)
    count = min(max(round(held_out * len(images)), 1), len(images) - 1)
    return data.of_images(sorted(order[count:].tolist())), data.of_images(sorted(order[:count].tolist()))


def read_coco(
    images: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    *,
    keypoint_set: KeypointSet | None = None,
    skip_bad: bool = False,
) -> PoseData:
    """The people that the file `annotations` names, in the folder `images`.

    The category that has `keypoints`, or of several the one named person, says their names and skeleton (whose indices
    count from 1). keypoint_set: the set that it has to be. Raises InvalidArgumentError for a file of another format,
    and one that names every annotation that cannot be used (missing image, wrong number of keypoints, box outside the
    image); skip_bad leaves these out and names them on stderr.
    """
    folder, path = Path(images).expanduser(), Path(annotations).expanduser()
    if not folder.is_dir():
        raise InvalidArgumentError("no such folder", where=str(folder), expected="the folder of the images")
    content = _read(path)
    category, found = _category(content["categories"], path)
    if keypoint_set is not None and found.names != keypoint_set.names:
        raise InvalidArgumentError(
            "other keypoints", where=str(path), expected=", ".join(keypoint_set.names), got=", ".join(found.names)
        )
    reader = _Reader(folder, content["images"], len(found))
    rows = [row for row in content["annotations"] if isinstance(row, Mapping) and row.get("category_id") == category]
    people, bad = [], []
    for row in rows:
        try:
            people.append(reader.person(row))
        except ValueError as error:
            bad.append(f"annotation {row.get('id', '?')}: {error}")
    leave_out(bad, len(rows), "annotations", "cannot be used", skip_bad=skip_bad, where=str(path))
    if not any(not person.ignored for person in people):
        raise InvalidArgumentError("no person with keypoints", where=str(path))
    return PoseData(
        reader.files,
        found,
        np.array([person.image for person in people], np.int64),
        np.stack([person.keypoints for person in people]),
        np.array([person.box for person in people]),
        np.array([person.area for person in people]),
        np.array([person.ignored for person in people]),
        np.array([person.crowd for person in people]),
    )


@dataclass(frozen=True)
class _Person:
    image: int
    keypoints: Array
    box: tuple[float, float, float, float]
    area: float
    ignored: bool
    crowd: bool


class _Reader:
    """Annotations to people; the images are numbered as they come."""

    def __init__(self, folder: Path, images: Sequence[Any], keypoints: int) -> None:
        self.files: list[Path] = []
        self._folder = folder
        self._images = {row["id"]: row for row in images if isinstance(row, Mapping) and "id" in row}
        self._keypoints = keypoints
        self._places: dict[Any, int] = {}

    def person(self, row: Mapping[str, Any]) -> _Person:
        """Raises ValueError that says what is wrong."""
        name = row.get("image_id")
        if name not in self._images:
            raise ValueError(f"there is no image {name}")
        image = self._images[name]
        values = _numbers(row.get("keypoints"), 3 * self._keypoints, f"keypoints ({self._keypoints} of x, y, v)")
        keypoints = np.array(values).reshape(-1, 3)
        if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
            raise ValueError("keypoints: the visibility of each is 0, 1 or 2")
        x, y, width, height = _numbers(row.get("bbox"), 4, "bbox (x, y, width, height)")
        crowd = bool(row.get("iscrowd", 0))
        ignored = crowd or not (keypoints[:, 2] > 0).any()
        if not ignored:
            _check_box(image, x, y, width, height)
        area = float(row["area"]) if isinstance(row.get("area"), (int, float)) else width * height
        return _Person(self._place(name, image), keypoints, (x, y, x + width, y + height), area, ignored, crowd)

    def _place(self, name: Any, image: Mapping[str, Any]) -> int:
        if name not in self._places:
            path = self._folder / str(image.get("file_name", ""))
            if not path.is_file():
                raise ValueError(f"its image is missing: {path}")
            self._places[name] = len(self.files)
            self.files.append(path)
        return self._places[name]


def _check_box(image: Mapping[str, Any], x: float, y: float, width: float, height: float) -> None:
    shown = f"bbox {x:g}, {y:g}, {width:g}, {height:g}"
    if not (width > 0 and height > 0):
        raise ValueError(f"{shown} is empty")
    sides = image.get("width"), image.get("height")
    if not all(isinstance(side, (int, float)) for side in sides):
        raise ValueError(f"image {image.get('id')} does not say its width and height")
    right, bottom = (float(side) + _OUTSIDE for side in sides)  # type: ignore[arg-type]
    if x < -_OUTSIDE or y < -_OUTSIDE or x + width > right or y + height > bottom:
        raise ValueError(f"{shown} is not within its image of {sides[0]} x {sides[1]}")


def _numbers(values: Any, count: int, what: str) -> list[float]:
    if not isinstance(values, list) or len(values) != count:
        got = len(values) if isinstance(values, list) else type(values).__name__
        raise ValueError(f"{what}: expected {count} numbers, got {got}")
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) or not math.isfinite(v) for v in values):
        raise ValueError(f"{what}: not all of them are finite numbers")
    return [float(v) for v in values]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidArgumentError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"no JSON: {error}", where=str(path)) from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(not isinstance(content.get(part), list) for part in parts):
        raise InvalidArgumentError(
            "no COCO annotations", where=str(path), expected="an object with the lists images, annotations, categories"
        )
    return content


def _category(categories: Sequence[Any], path: Path) -> tuple[Any, KeypointSet]:
    """The id and the keypoints of the category of people."""
    given = [row for row in categories if isinstance(row, Mapping) and isinstance(row.get("keypoints"), list)]
    given = [row for row in given if row.get("name") == "person"] or given
    if len(given) != 1:
        raise InvalidArgumentError(
            f"{len(given)} categories with keypoints", where=str(path), expected="one, or one that is named person"
        )
    names = [str(name) for name in given[0]["keypoints"]]
    lines = given[0].get("skeleton") or []
    if not names or len(set(names)) != len(names):
        raise InvalidArgumentError("bad keypoints", where=str(path), expected="distinct names", got=names)
    for line in lines:
        if not isinstance(line, list) or len(line) != 2 or any(end not in range(1, len(names) + 1) for end in line):
            raise InvalidArgumentError(
                "bad skeleton", where=str(path), expected=f"pairs of 1 to {len(names)}", got=repr(line)
            )
    return given[0].get("id"), KeypointSet(tuple(names), tuple((a - 1, b - 1) for a, b in lines))

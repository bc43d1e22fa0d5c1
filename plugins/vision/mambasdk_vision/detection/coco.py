"""COCO's detection annotations: one JSON file with images, annotations and categories. No torch.

The format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.detection.data import Collected, DetectionData, Labelled, LabelledImage, check_names
from mambasdk_vision.detection.image_header import read_size

_PARTS = ("images", "annotations", "categories")


def read_coco(
    path: Path, *, images: Path | None = None, classes: Sequence[str] | None = None, skip_bad: bool = False
) -> DetectionData:
    """The images of the file and their boxes; classes by the order of the categories' ids.

    images: the folder of the images; None: the file's own, one beside it that is named as COCO names it, or `images`.
    classes: the names that there must be, in the order of the labels. Raises InvalidArgumentError for a file of another
    format, and one that names all that is wrong, unless `skip_bad`, which leaves those images out.
    """
    content = _content(path)
    categories = _categories(content["categories"], path, classes)
    found = Collected(list(classes) if classes is not None else [name for name, _ in categories.values()])
    folder = images if images is not None else _folder(path, content["images"])
    rows: dict[Any, list[Mapping[str, Any]]] = {}
    known = {row["id"] for row in content["images"] if isinstance(row, Mapping) and "id" in row}
    for row in content["annotations"]:
        name = row.get("image_id") if isinstance(row, Mapping) else None
        if name in known:
            rows.setdefault(name, []).append(row)
        else:
            number = row.get("id", "?") if isinstance(row, Mapping) else "?"
            found.wrong.append(f"{path}: annotation {number}: there is no image {name}")
    for row in content["images"]:
        found.seen += 1
        try:
            found.images.append(_image(row, folder, rows, categories, found))
        except (ValueError, OSError) as error:
            found.wrong += [f"{path}: {line}" for line in str(error).splitlines()]
    found.seen += len(found.wrong)
    return found.finish(str(path), skip_bad=skip_bad)


def _image(
    row: Any, folder: Path, rows: Mapping[Any, Any], categories: Mapping[Any, tuple[str, int]], found: Collected
) -> LabelledImage:
    """Raises ValueError with a line for everything that is wrong."""
    if not isinstance(row, Mapping) or "id" not in row or not isinstance(row.get("file_name"), str):
        raise ValueError("an image without id or file_name")
    file = folder / row["file_name"]
    if not file.is_file():
        raise ValueError(f"image {row['id']}: there is no file {file}")
    try:
        size = read_size(file)
    except (ValueError, OSError) as error:
        raise ValueError(f"image {row['id']}: {file}: {error}") from None
    given = tuple(row.get(name, side) for name, side in zip(("height", "width"), size, strict=True))
    if given not in (size, size[::-1]):
        raise ValueError(
            f"image {row['id']}: {file} is {size[1]} x {size[0]}, and the annotations are for {given[1]} x {given[0]}"
        )
    objects, wrong = [], []
    for annotation in rows.get(row["id"], ()):
        try:
            if (labelled := _object(annotation, size, categories, found)) is not None:
                objects.append(labelled)
        except ValueError as error:
            wrong.append(f"annotation {annotation.get('id', '?')}: {error}")
    if wrong:
        raise ValueError("\n".join(wrong))
    return LabelledImage.of(file, size, objects)


def _object(
    row: Mapping[str, Any], size: tuple[int, int], categories: Mapping[Any, tuple[str, int]], found: Collected
) -> Labelled | None:
    category = row.get("category_id")
    if category not in categories:
        raise ValueError(f"category {category} is none of the file's")
    values = row.get("bbox")
    if not isinstance(values, list) or len(values) != 4 or not all(map(_is_number, values)):
        raise ValueError("bbox: expected 4 finite numbers (x, y, width, height)")
    x, y, width, height = map(float, values)
    box = found.box((x + width / 2, y + height / 2, width, height), size)
    if box is None:
        return None
    area = row.get("area")
    return Labelled(
        categories[category][1],
        box,  # type: ignore[arg-type]
        crowd=bool(row.get("iscrowd", 0)),
        area=float(area) if _is_number(area) else math.nan,  # type: ignore[arg-type]
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidArgumentError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"no JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict) or any(not isinstance(content.get(part), list) for part in _PARTS):
        raise InvalidArgumentError(
            "no COCO annotations", where=str(path), expected="an object with the lists images, annotations, categories"
        )
    return content


def _categories(rows: Sequence[Any], path: Path, classes: Sequence[str] | None) -> dict[Any, tuple[str, int]]:
    """Name and class of each category by its id."""
    given = [row for row in rows if isinstance(row, Mapping) and isinstance(row.get("id"), int)]
    if len(given) != len(rows) or any("name" not in row for row in given):
        raise InvalidArgumentError("a category without id or name", where=str(path))
    given.sort(key=lambda row: row["id"])
    names = check_names((row["name"] for row in given), str(path))
    order = list(classes) if classes is not None else names
    if stray := [name for name in names if name not in order]:
        raise InvalidArgumentError(
            f"categories that are no class: {', '.join(stray[:8])}", where=str(path), expected=", ".join(order[:20])
        )
    return {row["id"]: (name, order.index(name)) for row, name in zip(given, names, strict=True)}


def _folder(path: Path, rows: Sequence[Any]) -> Path:
    """Where the first image is: COCO has annotations/instances_val2017.json beside val2017/."""
    first = next((row["file_name"] for row in rows if isinstance(row, Mapping) and "file_name" in row), "")
    beside, above = path.parent, path.parent.parent
    split = path.stem.rpartition("_")[2]
    candidates = [beside, beside / "images", beside / split, above / split, above / "images", above / "images" / split]
    return next((folder for folder in candidates if first and (folder / str(first)).is_file()), beside)

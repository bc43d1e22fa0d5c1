"""YOLO's text labels: data.yaml, images/…, and labels/… with a line `class x y width height` for each object.

The format: https://docs.ultralytics.com/datasets/detect/. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk_vision.detection.data import Collected, DetectionData, Labelled, LabelledImage, check_names
from mambasdk_vision.detection.image_header import read_size
from mambasdk_vision.plugin import SUFFIXES


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of data.yaml, with `names` as a list. Raises InvalidArgumentError where it is none."""
    yaml = require_module("yaml", "reading data.yaml", "pip install pyyaml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgumentError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"no YAML: {error}", where=str(path)) from error
    if not isinstance(content, dict) or not {"train", "names"} <= content.keys():
        raise InvalidArgumentError("no description of data", where=str(path), expected="train, val and names")
    names = content["names"]
    if isinstance(names, Mapping):
        if sorted(names) != list(range(len(names))):
            raise InvalidArgumentError(
                "bad names", where=str(path), expected=f"a name for each of 0 to {len(names) - 1}", got=sorted(names)
            )
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise InvalidArgumentError("bad names", where=str(path), expected="a list, or names by index", got=names)
    content["names"] = check_names(names, str(path))
    if (count := content.get("nc", len(names))) != len(names):
        raise InvalidArgumentError("nc is not the number of names", where=str(path), expected=len(names), got=count)
    return content


def read_yolo(path: Path, part: str, *, skip_bad: bool = False) -> DetectionData | None:
    """The images of `part` ("train", "val" or "test") of a data.yaml and their labels; None where it names none.

    An image without a label file, or with an empty one, has no objects. Raises InvalidArgumentError that names every
    wrong line and every missing image by file and line, unless `skip_bad`, which leaves those images out.
    """
    content = read_yaml(path)
    places = content.get(part)
    if not places:
        return None
    root = path.parent / str(content.get("path") or "")
    found = Collected(content["names"])
    listed: list[tuple[Path, str]] = []  # an image, and what names it
    for place in places if isinstance(places, list) else [places]:
        listed += _listed(_resolved(root, path.parent, str(place), path), found)
    found.seen = len(listed) + len(found.wrong)
    for image, where in listed:
        _read(found, image, where)
    return found.finish(str(path), skip_bad=skip_bad)


def label_file(image: Path) -> Path:
    """Where an image's labels are: the last folder `images` of its path becomes `labels`, the ending .txt."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_label_lines(lines: Iterable[str], where: str, found: Collected) -> list[Labelled]:
    """The objects of a label file. Raises ValueError that names the wrong lines, one a line."""
    objects, wrong = [], []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            if (labelled := _object(words, found)) is not None:
                objects.append(labelled)
        except ValueError as error:
            wrong.append(f"{where}:{number}: {error}")
    if wrong:
        raise ValueError("\n  ".join(wrong))
    return objects


def _object(words: Sequence[str], found: Collected) -> Labelled | None:
    if len(words) != 5:
        raise ValueError(f"expected 5 columns (class, centre x and y, width, height), got {len(words)}")
    try:
        index, *values = (float(word) for word in words)
    except ValueError:
        raise ValueError(f"not numbers: {' '.join(words)[:60]}") from None
    if not (index == int(index) if abs(index) < 2**31 else False) or not 0 <= index < len(found.classes):
        raise ValueError(f"class {words[0]} is out of range: expected 0 to {len(found.classes) - 1}")
    box = found.box(values)
    return None if box is None else Labelled(int(index), box)  # type: ignore[arg-type]


def _resolved(root: Path, beside: Path, place: str, yaml: Path) -> Path:
    """A place of data.yaml: below its `path`, else beside the file."""
    for folder in (root, beside):
        if (folder / place).exists():
            return folder / place
    raise InvalidArgumentError("no such folder or list of images", where=str(yaml), got=str(root / place))


def _listed(place: Path, found: Collected) -> list[tuple[Path, str]]:
    """The images of a folder (at any depth, by path) or of a text file with a path in each line."""
    if place.is_dir():
        images = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        return [(image, str(image)) for image in images]
    listed = []
    for number, line in enumerate(place.read_text(encoding="utf-8").splitlines(), 1):
        if not (name := line.strip()):
            continue
        image = Path(name) if Path(name).is_absolute() else place.parent / name
        if image.is_file():
            listed.append((image, f"{place}:{number}"))
        else:
            found.wrong.append(f"{place}:{number}: there is no image {image}")
    return listed


def _read(found: Collected, image: Path, where: str) -> None:
    try:
        size = read_size(image)
    except (ValueError, OSError) as error:
        found.wrong.append(f"{where}: {error}")
        return
    labels = label_file(image)
    objects: list[Labelled] = []
    if labels.is_file():
        try:
            objects = read_label_lines(labels.read_text(encoding="utf-8").splitlines(), str(labels), found)
        except UnicodeDecodeError:
            found.wrong.append(f"{labels}: no text")
            return
        except ValueError as error:
            found.wrong.append(str(error))
            return
    found.images.append(LabelledImage.of(image, size, objects))

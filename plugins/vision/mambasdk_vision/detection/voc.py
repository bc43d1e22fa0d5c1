"""Pascal VOC: a folder with JPEGImages/, Annotations/*.xml and lists in ImageSets/Main/. No torch.

The format: The PASCAL Visual Object Classes Challenge 2012 Development Kit, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.detection.data import Collected, DetectionData, Labelled, LabelledImage, check_names
from mambasdk_vision.detection.image_header import read_size
from mambasdk_vision.plugin import SUFFIXES

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc(folder: Path) -> bool:
    """Whether a folder is one of Pascal VOC."""
    return (folder / "Annotations").is_dir()


def read_voc(
    folder: Path, part: str | None = None, *, classes: Sequence[str] | None = None, skip_bad: bool = False
) -> DetectionData | None:
    """The images of a list ("train", "val" or "test") and their boxes; part None: every image with an annotation file.

    None where there is no such list. classes: the names that there must be, in order; None: all that occur in the
    folder, sorted. Raises InvalidArgumentError that names all that is wrong by file and line, unless `skip_bad`, which
    leaves those images out.
    """
    lists = folder / "ImageSets" / "Main"
    if part is not None and not (lists / f"{part}.txt").is_file():
        return None
    every = {path.stem: path for path in sorted((folder / "Annotations").glob("*.xml"))}
    parsed: dict[str, Any] = {}
    found = Collected([])
    for stem, path in every.items():
        try:
            parsed[stem] = _parse(path)
        except ValueError as error:
            parsed[stem] = str(error)
    names = {one["name"] for content in parsed.values() if isinstance(content, dict) for one in content["objects"]}
    found.classes = list(classes) if classes is not None else check_names(sorted(names - {""}), str(folder))
    chosen = list(every) if part is None else _listed(lists / f"{part}.txt")
    images = _images(folder)
    for stem in chosen:
        found.seen += 1
        path = folder / "Annotations" / f"{stem}.xml"
        content = parsed.get(stem, f"{path}: there is no such file")
        try:
            if isinstance(content, str):
                raise ValueError(content)
            found.images.append(_image(path, content, images.get(stem), found))
        except ValueError as error:
            found.wrong.append(str(error))
    return found.finish(str(folder), skip_bad=skip_bad)


def _images(folder: Path) -> dict[str, Path]:
    place = folder / "JPEGImages"
    if not place.is_dir():
        raise InvalidArgumentError("no folder JPEGImages", where=str(folder))
    return {path.stem: path for path in sorted(place.iterdir()) if path.suffix.lower() in SUFFIXES}


def _listed(path: Path) -> list[str]:
    """Names in the first column of a list."""
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _image(path: Path, content: dict[str, Any], image: Path | None, found: Collected) -> LabelledImage:
    """Raises ValueError with file and line of all that is wrong."""
    if image is None:
        raise ValueError(f"{path}: there is no image {path.stem} in JPEGImages")
    try:
        size = read_size(image)
    except (ValueError, OSError) as error:
        raise ValueError(f"{image}: {error}") from None
    objects, wrong = [], []
    for one in content["objects"]:
        try:
            if (labelled := _object(one, size, found)) is not None:
                objects.append(labelled)
        except ValueError as error:
            wrong.append(f"{path}:{one['line']}: {error}")
    if wrong:
        raise ValueError("\n  ".join(wrong))
    return LabelledImage.of(image, size, objects)


def _object(one: dict[str, Any], size: tuple[int, int], found: Collected) -> Labelled | None:
    if one["name"] not in found.classes:
        raise ValueError(f"class {one['name']!r} is none of {', '.join(found.classes[:20])}")
    try:
        x1, y1, x2, y2 = (float(one[name]) for name in _CORNERS)
    except (KeyError, ValueError):
        raise ValueError(f"bndbox: expected numbers {', '.join(_CORNERS)}") from None
    # Corners are pixels counted from 1, both inside the box.
    x1, y1 = x1 - 1, y1 - 1
    box = found.box(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), size)
    if box is None:
        return None
    return Labelled(found.classes.index(one["name"]), box, difficult=one.get("difficult", "0") == "1")  # type: ignore[arg-type]


def _parse(path: Path) -> dict[str, Any]:
    """{"objects": [{"line", "name", "xmin", …, "difficult"}]}. Raises ValueError with file and line."""
    objects: list[dict[str, Any]] = []
    stack: list[str] = []
    text: list[str] = []
    parser = expat.ParserCreate()

    def start(name: str, _: Any) -> None:
        stack.append(name)
        text.clear()
        if stack[1:] == ["object"]:
            objects.append({"line": parser.CurrentLineNumber, "name": ""})

    def end(name: str) -> None:
        value = "".join(text).strip()
        if stack[1:2] == ["object"] and stack[2:] in (["name"], ["difficult"], *(["bndbox", c] for c in _CORNERS)):
            objects[-1][name] = value
        stack.pop()
        text.clear()

    def refuse(*_: Any) -> None:
        raise ValueError(f"{path}:{parser.CurrentLineNumber}: entities are not read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text.append
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise ValueError(f"{path}:{error.lineno}: no XML: {expat.ErrorString(error.code)}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None
    return {"objects": objects}

"""`--data`: data.yaml of YOLO, JSON of COCO, or a folder of Pascal VOC. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.detection.coco import read_coco
from mambasdk_vision.detection.data import DetectionData, split
from mambasdk_vision.detection.voc import is_voc, read_voc
from mambasdk_vision.detection.yolo_labels import read_yaml, read_yolo

_EXPECTED = "data.yaml (YOLO), a .json file (COCO) or a folder with Annotations/ (Pascal VOC)"


def add_data_arguments(group: argparse._ArgumentGroup) -> None:
    """Where labelled images are: `--data`, `--images`, `--test`, `--held-out`."""
    group.add_argument("--data", required=True, metavar="PATH", help=_EXPECTED)
    group.add_argument("--images", metavar="DIR", help="folder of the images of a COCO file (default: found beside it)")
    group.add_argument(
        "--test", metavar="PATH", help="the same, not trained on (default: the val of --data, else --held-out)"
    )
    group.add_argument("--test-images", metavar="DIR", help="folder of its images")
    group.add_argument(
        "--held-out", type=float, default=0.1, help="share of --data that is not trained on (default: 0.1)"
    )


def read_training_data(args: argparse.Namespace) -> tuple[DetectionData, DetectionData]:
    """(to train on, held out), as the arguments of `add_data_arguments` say."""
    path, skip_bad = Path(args.data).expanduser(), args.skip_bad
    images = Path(args.images).expanduser() if args.images else None
    whole: DetectionData | None = None
    held_out: DetectionData | None = None
    if path.suffix.lower() in (".yaml", ".yml"):
        whole = read_yolo(path, "train", skip_bad=skip_bad)
        held_out = None if args.test else read_yolo(path, "val", skip_bad=skip_bad)
    elif path.is_dir() and is_voc(path):
        every = read_voc(path, skip_bad=True) if skip_bad else None
        whole = read_voc(path, "train", classes=every.classes if every else None, skip_bad=skip_bad)
        whole = whole or read_voc(path, skip_bad=skip_bad)
        held_out = None if args.test else read_voc(path, "val", skip_bad=skip_bad)
    else:
        whole = read_data(path, images=images, skip_bad=skip_bad)
    if whole is None:
        raise InvalidArgumentError("no images to train on", where=str(path))
    if args.test:
        folder = Path(args.test_images).expanduser() if args.test_images else None
        held_out = read_data(Path(args.test).expanduser(), whole.classes, images=folder, skip_bad=skip_bad)
    return (whole, held_out) if held_out is not None else split(whole, args.held_out, args.seed)


def read_data(
    path: Path,
    classes: Sequence[str] | None = None,
    *,
    part: str | None = None,
    images: Path | None = None,
    skip_bad: bool = False,
) -> DetectionData:
    """Labelled images to measure on.

    classes: the names that there must be, in order. part: "train", "val" or "test" of data.yaml or of VOC's lists;
    None: val where there is one, else train, and all images of a VOC folder without lists. images: the folder of a COCO
    file's. Raises InvalidArgumentError for another kind of file, and as the readers do.
    """
    wanted = [part] if part else ["val", "train"]
    if path.suffix.lower() in (".yaml", ".yml"):
        names = read_yaml(path)["names"]
        if classes is not None and names != list(classes):
            raise InvalidArgumentError(
                "other classes", where=str(path), expected=", ".join(classes[:20]), got=", ".join(names[:20])
            )
        found = (read_yolo(path, name, skip_bad=skip_bad) for name in wanted)
    elif path.suffix.lower() == ".json":
        return read_coco(path, images=images, classes=classes, skip_bad=skip_bad)
    elif path.is_dir() and is_voc(path):
        parts = wanted if part else [*wanted, None]
        found = (read_voc(path, name, classes=classes, skip_bad=skip_bad) for name in parts)
    else:
        reason = "no such file or folder" if not path.exists() else "not labelled images"
        raise InvalidArgumentError(reason, where=str(path), expected=_EXPECTED)
    data = next((data for data in found if data is not None), None)
    if data is None:
        raise InvalidArgumentError("no such part of the data", where=str(path), expected=" or ".join(wanted))
    return data

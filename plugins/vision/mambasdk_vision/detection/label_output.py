"""Boxes as YOLO's text labels, for `mambasdk predict --save-txt`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mambasdk.atomic import replacing_file
from mambasdk_vision.detection.boxes import centres
from mambasdk_vision.detection.image_header import size_of


def write_labels(
    path: str | os.PathLike[str], image: Any, detections: Sequence[Mapping[str, Any]], *, scores: bool = False
) -> None:
    """A line for each object: class, centre x and y, width and height as shares of the image, and its score.

    image: the bytes of its file, or uint8 (H, W, 3). detections: what the head said, boxes in pixels.
    """
    height, width = size_of(image) if isinstance(image, bytes) else image.shape[:2]
    lines = []
    for one in detections:
        values = (centres(one["box"])[0] / (width, height, width, height)).tolist()
        words = [str(one["index"]), *(f"{value:.6g}" for value in values)]
        lines.append(" ".join([*words, *([f"{one['score']:.6g}"] if scores else [])]) + "\n")
    with replacing_file(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8")

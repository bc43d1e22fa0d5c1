"""A detector package on the frames of a video: any package whose head says `detections`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.package.manifest import Manifest
from mambasdk.pipeline import load_pipeline

_RESULT = "detections"


class Detector:
    """The pipeline of a package, and boxes of a frame as a tracker takes them.

    Its head must say {"detections": [{"box": [x1, y1, x2, y2] in pixels of the frame, "score", "index", "label"}]}, as
    `object_detection` does. conf and iou are the head's options score_threshold and iou_threshold, None: the package's.
    classes: labels or indices of those to keep; none: all. verify and allow_code are those of `load_pipeline`.
    Raises InvalidArgumentError where the package takes more than a picture, and the errors of `load_pipeline`.
    """

    def __init__(
        self,
        package: str | os.PathLike[str],
        *,
        conf: float | None = None,
        iou: float | None = None,
        classes: Sequence[str | int] = (),
        verify: bool | None = None,
        allow_code: bool = False,
    ) -> None:
        self.package = os.fspath(package)
        manifest = Manifest.read(package)
        kinds = [str(entry.get("kind")) for entry in manifest.processors.values()]
        if kinds == ["detections"]:
            raise InvalidArgumentError(
                "it takes detections, and finds none", where=self.package, way_out="give it as --motion"
            )
        if len(kinds) != 1:
            raise InvalidArgumentError(
                "it is no detector", where=self.package, expected="a package that takes a picture and nothing else",
                got=", ".join(kinds) or "a package without processors",
            )  # fmt: skip
        [self._slot] = manifest.processors
        given = {"score_threshold": conf, "iou_threshold": iou}
        self._options = {name: value for name, value in given.items() if value is not None}
        self._classes = frozenset(map(str, classes))
        self._check_classes((manifest.head_options or {}).get("labels"))
        self._pipeline = load_pipeline(package, verify=verify, allow_code=allow_code)

    def __call__(self, frame: bytes | npt.NDArray[np.uint8], where: str = "frame") -> npt.NDArray[np.float32]:
        """frame: a picture's file as bytes, or pixels, uint8 (H, W, 3), RGB. where: its name in errors.

        Returns float32 (n, 6): x1, y1, x2, y2 in pixels, score, class. Raises InvalidArgumentError for what the package
        cannot read, and where its head says no detections.
        """
        self._pipeline.reset()
        try:
            said = self._pipeline.run({self._slot: frame}, self._options or None).get("json")
        except (ValueError, LookupError, RuntimeError, TypeError) as error:
            raise InvalidArgumentError(str(error), where=where) from error
        if not isinstance(said, Mapping) or not isinstance(said.get(_RESULT), list):
            got = ", ".join(said) if isinstance(said, Mapping) and said else "tensors alone"
            raise InvalidArgumentError(
                "it is no detector", where=self.package, expected="a head that says detections, as object_detection",
                got=got,
            )  # fmt: skip
        rows = [self._row(found) for found in said[_RESULT] if self._is_wanted(found)]
        return np.array(rows, np.float32).reshape(-1, 6)

    def _is_wanted(self, found: Mapping[str, Any]) -> bool:
        return not self._classes or not self._classes.isdisjoint((str(found["index"]), str(found["label"])))

    @staticmethod
    def _row(found: Mapping[str, Any]) -> list[float]:
        return [*found["box"], found["score"], found["index"]]

    def _check_classes(self, labels: Sequence[str] | None) -> None:
        """Refuse a class that the package does not name."""
        if not labels:
            return
        unknown = sorted(self._classes - {*labels, *map(str, range(len(labels)))})
        if unknown:
            raise InvalidArgumentError(
                f"no such class: {', '.join(unknown)}", where=self.package,
                expected=f"labels or indices of {', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}",
            )  # fmt: skip

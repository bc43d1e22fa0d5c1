"""Reading images and label maps of every format, and writing label maps and probabilities on the same grid."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.data.labels import LabelMap

_FORMATS = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".png": "pictures",
    ".tif": "pictures",
    ".tiff": "pictures",
    ".bmp": "pictures",
    "": "dicom",
}
FILE_ENDINGS = tuple(_FORMATS)


class Format(Protocol):
    """A module that reads and writes one format."""

    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Samples (C, D, H, W) of one file (C is 1 but for colours), and where they lie."""

    def write(self, path: Path, labels: LabelMap, geometry: Geometry) -> None:
        """Write a label map (D, H, W) on the grid of `geometry`."""


def format_of(ending: str) -> Format:
    """The reader and writer of a file ending; raises InvalidArgumentError for one that nothing reads."""
    if ending.lower() not in _FORMATS:
        raise InvalidArgumentError(
            "nothing reads this format", expected=", ".join(key or "a folder" for key in _FORMATS), got=ending
        )
    made: Any = import_module(f"mambasdk_medical.data.{_FORMATS[ending.lower()]}")
    form: Format = made
    return form


def ending_of(path: Path) -> str:
    """The file ending as `dataset.json` writes it: ".nii.gz" whole; "" for a folder, which is a DICOM series."""
    if path.is_dir():
        return ""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def read_image(paths: Sequence[Path]) -> tuple[npt.NDArray[np.float32], Geometry]:
    """The channels of one case, float32 (C, D, H, W), and its geometry. All files must lie on one grid.

    Raises InvalidArgumentError for a file that is missing, damaged or has more than three axes, for NaN, and where
    channels differ in shape, spacing or place.
    """
    parts, first = [], None
    for path in paths:
        if not path.exists():
            raise InvalidArgumentError("no such file", where=str(path))
        samples, geometry = format_of(ending_of(path)).read(path)
        if first is None:
            first = geometry
        else:
            first.check_same(geometry, str(paths[0]), f"channel {path.name}")
        image = samples.astype(np.float32)
        if not np.isfinite(image).all():
            raise InvalidArgumentError(
                "values that are not finite", where=str(path), way_out="replace NaN and infinity"
            )
        parts.append(image)
    if first is None:
        raise InvalidArgumentError("no files", where="read_image")
    return np.concatenate(parts), first


def read_labels(path: Path) -> tuple[npt.NDArray[np.int16], Geometry]:
    """A label map, int16 (D, H, W), and its geometry. Raises InvalidArgumentError, also for values between integers."""
    if not path.exists():
        raise InvalidArgumentError("no such file", where=str(path))
    samples, geometry = format_of(ending_of(path)).read(path)
    if len(samples) != 1:
        raise InvalidArgumentError(
            "a label map has one channel", where=str(path), got=f"{len(samples)} channels", way_out="write indices"
        )
    labels = samples[0]
    with np.errstate(invalid="ignore"):
        made = labels.astype(np.int16)
    if not np.array_equal(made, labels):
        raise InvalidArgumentError(
            "labels are no integers from 0 to 32767", where=str(path), got=f"{labels.min():g} to {labels.max():g}"
        )
    return made, geometry


def write_labels(path: Path, labels: LabelMap, geometry: Geometry) -> None:
    """Write a label map (D, H, W) on the grid of `geometry`; the format is that of the file's ending."""
    if labels.shape != geometry.shape:
        raise InvalidArgumentError("another shape", where=str(path), expected=geometry.shape, got=labels.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    format_of(ending_of(path)).write(path, labels, geometry)

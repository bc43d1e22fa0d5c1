"""A folder with the slices of one DICOM series, by pydicom, an optional extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk_medical.data import nifti
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.data.labels import LabelMap

_GAP_TOLERANCE = 0.05  # of the distance of slices


def read(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Samples (1, D, H, W) in the units of the modality (HU for CT), slices in the order of their positions.

    Raises InvalidArgumentError for a folder of several series, missing slices, or another kind of files.
    """
    slices = _slices(path)
    along = _direction(slices[0])
    slices.sort(key=lambda one: float(np.dot(along[2], _position(one))))
    places = np.array([np.dot(along[2], _position(one)) for one in slices])
    gaps = np.diff(places)
    thickness = float(np.median(gaps)) if len(gaps) else float(getattr(slices[0], "SliceThickness", 1.0) or 1.0)
    if len(gaps) and (thickness <= 0 or (np.abs(gaps - thickness) > _GAP_TOLERANCE * thickness).any()):
        raise InvalidArgumentError(
            "slices are missing or lie on each other",
            where=str(path),
            expected=f"a distance of {thickness:g} mm",
            got=f"{gaps.min():g} to {gaps.max():g}",
        )
    pixels = [
        one.pixel_array.astype(np.float32) * float(getattr(one, "RescaleSlope", 1))
        + float(getattr(one, "RescaleIntercept", 0))
        for one in slices
    ]
    if len({image.shape for image in pixels}) != 1 or pixels[0].ndim != 2:
        raise InvalidArgumentError("slices of different sizes", where=str(path), expected="one grey series")
    volume = np.stack(pixels)
    rows, columns = (float(value) for value in slices[0].PixelSpacing)
    affine = np.eye(4)
    # DICOM's axes point to the left and to the back, NIfTI's to the right and to the front.
    turn = np.diag([-1.0, -1.0, 1.0])
    affine[:3, 0], affine[:3, 1] = turn @ along[0] * columns, turn @ along[1] * rows
    affine[:3, 2], affine[:3, 3] = turn @ along[2] * thickness, turn @ _position(slices[0])
    return volume[None], Geometry((thickness, rows, columns), volume.shape, affine)


def _slices(path: Path) -> list[Any]:
    pydicom: Any = require_module("pydicom", "reading DICOM", "pip install 'mambasdk-medical[dicom]'")
    found = []
    for file in sorted(path.iterdir()):
        if file.name.startswith(".") or not file.is_file() or file.name == "DICOMDIR":
            continue
        try:
            one = pydicom.dcmread(file)
        except (OSError, EOFError, ValueError, pydicom.errors.InvalidDicomError) as error:
            raise InvalidArgumentError(f"cannot be read as DICOM: {error}", where=str(file)) from error
        if hasattr(one, "ImagePositionPatient") and "PixelData" in one:
            found.append(one)
    if not found:
        raise InvalidArgumentError("no slice of a DICOM series", where=str(path))
    if len(series := {str(getattr(one, "SeriesInstanceUID", "")) for one in found}) > 1:
        raise InvalidArgumentError(
            f"{len(series)} series", where=str(path), expected="one", way_out="give each a folder of its own"
        )
    return found


def _position(one: Any) -> npt.NDArray[np.float64]:
    return np.array([float(value) for value in one.ImagePositionPatient])


def _direction(one: Any) -> npt.NDArray[np.float64]:
    """Unit vectors along columns' index, rows' index, slices."""
    cosines = np.array([float(value) for value in one.ImageOrientationPatient]).reshape(2, 3)
    return np.stack([cosines[0], cosines[1], np.cross(cosines[0], cosines[1])])


def write(path: Path, labels: LabelMap, geometry: Geometry) -> None:
    """A label map of a series is a NIfTI file beside it."""
    nifti.write(path.with_name(path.name + ".nii.gz"), labels, geometry)

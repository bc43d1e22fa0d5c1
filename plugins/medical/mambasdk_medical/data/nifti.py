"""NIfTI by nibabel. Arrays have their axes reversed: (D, H, W) is NIfTI's (z, y, x)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.data.labels import LabelMap

_INSTALL = "pip install 'mambasdk-medical[train]'"

_NIFTI2 = 540  # size of its header


def read(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Samples (1, D, H, W), scaled as the header says. A file of two axes has D = 1.

    Raises InvalidArgumentError for a damaged file, one with more than three axes, and a spacing of 0.
    """
    nibabel: Any = require_module("nibabel", "reading NIfTI", _INSTALL)
    try:
        image = _open(nibabel, path)
        samples = np.asanyarray(image.dataobj)
    except _damage(nibabel) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidArgumentError(
            f"cannot be read as NIfTI: {reason}", where=str(path), way_out="the file may be cut off: copy it again"
        ) from error
    while samples.ndim > 3 and samples.shape[-1] == 1:
        samples = samples[..., 0]
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim != 3 or 0 in samples.shape:
        raise InvalidArgumentError(
            f"{samples.ndim} axes",
            where=str(path),
            expected="3 of at least one voxel",
            got=tuple(samples.shape),
            way_out="write one 3-D file for each channel, NAME_0000.nii.gz, NAME_0001.nii.gz, …",
        )
    zooms = [float(zoom) for zoom in image.header.get_zooms()[:3]]
    zooms += [1.0] * (3 - len(zooms))
    if min(zooms) <= 0 or not np.isfinite(zooms).all():
        raise InvalidArgumentError("bad spacing", where=str(path), expected="more than 0 mm on each axis", got=zooms)
    geometry = Geometry(
        (zooms[2], zooms[1], zooms[0]),
        (samples.shape[2], samples.shape[1], samples.shape[0]),
        np.asarray(image.affine, np.float64),
        {"header": image.header.copy(), "shape": tuple(image.shape)},
    )
    return samples.transpose(2, 1, 0)[None], geometry


def _damage(nibabel: Any) -> tuple[type[Exception], ...]:
    """What reading a damaged file raises."""
    of_nibabel = (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        nibabel.wrapstruct.WrapStructError,
    )
    return (OSError, EOFError, ValueError, zlib.error, *of_nibabel)


def _open(nibabel: Any, path: Path) -> Any:
    if path.suffix != ".gz":
        return nibabel.load(path)
    # All of it, so that its check sum is compared: what is cut off may be enough for the voxels.
    data = gzip.decompress(path.read_bytes())
    second = _NIFTI2 in (int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big"))
    return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_bytes(data)


def write(path: Path, labels: LabelMap, geometry: Geometry) -> None:
    """Write a label map with the affine, units and codes of the file that it belongs to."""
    save(path, labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16), geometry)


def save(path: Path, volume: npt.NDArray[Any], geometry: Geometry) -> None:
    """Write samples (D, H, W) of any type on the grid of `geometry`."""
    nibabel: Any = require_module("nibabel", "writing NIfTI", _INSTALL)
    affine = geometry.affine
    if affine is None:
        affine = np.diag([*geometry.spacing[::-1], 1.0])
    samples = volume.transpose(2, 1, 0)
    image = nibabel.Nifti1Image(samples.reshape(geometry.source.get("shape", samples.shape)), affine)
    old = geometry.source.get("header")
    if old is not None:
        for code in ("qform_code", "sform_code", "xyzt_units"):
            image.header[code] = old[code]
    image.header.set_zooms([*geometry.spacing[::-1], 1.0, 1.0, 1.0, 1.0][: len(image.shape)])
    nibabel.save(image, path)

"""Files of volumes by the native code: what a package does with the images of a case, NIfTI in and out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import DtypeError
from mambasdk.pipeline import NativeProcessor, PluginProcessor, raw_input


@dataclass(frozen=True)
class Nifti:
    """A volume as a file has it. array: float32 (D, H, W). spacing: of D, H and W in mm. header: 348 bytes."""

    array: npt.NDArray[np.float32]
    spacing: tuple[float, float, float]
    header: bytes


def read_nifti(file: str | os.PathLike[str] | bytes, *, max_voxels: int = 2**30) -> Nifti:
    """A .nii or .nii.gz file, a path or its bytes. One volume; numbers are scaled as the header says.

    Raises ValueError for files that are damaged, cut off, larger than max_voxels or of another kind, for several
    volumes, and for voxels that are not finite.
    """
    made = NativeProcessor("medical", "nifti", {"max_voxels": max_voxels}).run(file=raw_input(file))
    depth, height, width = (float(mm) for mm in made["spacing"])
    return Nifti(np.asarray(made["array"]), (depth, height, width), np.asarray(made["header"]).tobytes())


def write_nifti(
    array: Any,
    header: bytes | None = None,
    *,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    affine: Any = None,
    compress: bool = True,
) -> bytes:
    """The bytes of a .nii.gz (or .nii) file of an array (D, H, W), uint8, int16, uint16, int32 or float32.

    header: of `read_nifti`, whose orientation and spacing stay. Without it spacing, of D, H and W in mm, and affine
    (3, 4) or (4, 4), from (column, row, slice, 1) to mm.
    """
    values = np.ascontiguousarray(array)
    options: dict[str, Any] = {"compress": compress}
    if values.dtype in (np.int16, np.uint16, np.int32):
        options["type"] = values.dtype.name
        values = values.astype(np.int32)
    elif values.dtype not in (np.uint8, np.float32):
        raise DtypeError(
            "bad array", where="write_nifti", expected="uint8, int16, uint16, int32 or float32", got=values.dtype
        )
    given: dict[str, Any] = {"array": values}
    if header is not None:
        given["header"] = np.frombuffer(header, np.uint8)
    else:
        given["spacing"] = np.asarray(spacing, np.float64)
        if affine is not None:
            given["affine"] = np.ascontiguousarray(np.asarray(affine, np.float64)[:3])
    made = NativeProcessor("medical", "nifti_file", options).run(**given)
    return np.asarray(made["file"]).tobytes()


class MedicalImage(PluginProcessor):
    """The files of a case to the volume that a model is run on: the processor of a package.

    Options, all by keyword: channels (1: files of a case), normalization (["zscore"], one of SCHEMES for each channel
    of the image or for all), mean, std, lower and upper (of ct: a number, or one for each channel), spacing ([]:
    kept), transpose ([0, 1, 2]), crop (True: to what is not zero), order (3), axis_order (0), anisotropy (3.0),
    max_voxels (2^30).
    """

    plugin = "medical"
    kind = "medical_image"

    def __call__(self, *files: Any, spacing: Sequence[float] | None = None) -> dict[str, Any]:
        """files: of one case, a channel each; paths or bytes of NIfTI or PNG. Or one array, float32 (C, D, H, W) or
        (C, H, W), and its spacing (D, H, W) in mm. Returns

        volume: float32 (C, D, H, W), prepared; and what the head needs to go back: volume.full_shape int64 (3),
        volume.crop int64 (3, 2), volume.spacing and volume.target_spacing float64 (3), volume.transpose int64 (3),
        volume.header uint8 (348), or (0) without a NIfTI file.

        Raises ValueError for damaged files, and for files of different shapes or spacings.
        """
        given: dict[str, Any] = {}
        for i, file in enumerate(files):
            raw = raw_input(file)
            given["image" if i == 0 else f"image.{i}"] = raw
        if spacing is not None:
            given["image.spacing"] = np.asarray(spacing, np.float64)
        return self.run_named(given)

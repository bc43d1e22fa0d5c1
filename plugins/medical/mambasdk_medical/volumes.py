"""Volumes prepared and read by the code that a package runs: thin faces of the plugin's operations and processors.

Arrays are float32 (C, D, H, W) or (C, H, W), the file's x fastest: what nnU-Net's readers give, and nibabel's
`get_fdata().T`. Spacing is in mm in the order of the axes. Results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.pipeline import NativeProcessor, PluginProcessor, raw_input
from mambasdk.plugins.host import get_host

Floats: TypeAlias = npt.NDArray[np.float32]
SCHEMES = ("none", "ct", "zscore", "zscore_masked", "rescale", "rgb")


@dataclass(frozen=True)
class Nifti:
    """A volume as a file has it. array: float32 (D, H, W). spacing: of D, H and W in mm. header: 348 bytes."""

    array: Floats
    spacing: tuple[float, float, float]
    header: bytes


def resample(
    volume: Any, shape: Sequence[int], order: int = 3, order_z: int | None = None, axis: int | None = None
) -> Floats:
    """volume, float32 (C, *S), at `shape` positions by B-splines: float32 (C, *shape).

    order: 0 (nearest), 1 (linear) or 3 (cubic); as scipy.ndimage.zoom(mode="nearest", grid_mode=True). axis: of S, one
    that is resampled with order_z in its place.
    """
    given = _volume(volume, "resample")
    dims = given.ndim - 1
    if len(shape) != dims:
        raise ShapeError("bad shape", where="resample", expected=f"{dims} extents", got=tuple(shape))
    apart = -1 if axis is None or order_z is None else range(dims)[axis] + 3 - dims
    to = [1] * (3 - dims) + [int(extent) for extent in shape]
    made = _call(
        "volume_resample",
        x=_deep(given),
        depth=to[0],
        height=to[1],
        width=to[2],
        order=order,
        axis=apart,
        axis_order=order if order_z is None else order_z,
    )["y"]
    return np.asarray(made).reshape(len(given), *shape)


def resampled_grid(
    shape: Sequence[int], spacing: Sequence[float], target_spacing: Sequence[float], threshold: float = 3.0
) -> tuple[tuple[int, ...], int | None]:
    """Extents after resampling, rounded to the nearest, and the axis to resample apart, by nnU-Net's rules.

    That is the one of the largest spacing where largest and smallest differ more than `threshold` times, before or else
    after; None where they do not, or two axes share it.
    """
    dims = len(shape)
    if not 2 <= dims <= 3 or len(spacing) != dims or len(target_spacing) != dims:
        got = tuple(spacing), tuple(target_spacing)
        raise ShapeError("bad spacing", where="resampled_grid", expected=f"{dims} numbers", got=got)
    missing = 3 - dims  # a depth that is not there; never the largest spacing, nor smaller than the smallest
    made = _call(
        "resampled_grid",
        shape=np.array([1] * missing + list(shape), np.int64),
        current=np.array([min(spacing)] * missing + list(spacing), np.float64),
        target=np.array([min(target_spacing)] * missing + list(target_spacing), np.float64),
        threshold=float(threshold),
    )
    axis = int(made["axis"][0]) - missing
    return tuple(int(extent) for extent in made["size"][missing:]), axis if axis >= 0 else None


def normalise(
    channel: Any,
    scheme: str,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    lower: float = 0.0,
    upper: float = 0.0,
    mask: Any = None,
) -> Floats:
    """The intensities of one channel, float32 (*S), by one of SCHEMES.

    ct: clipped to [lower, upper], less mean, by std, those of the data set's foreground. zscore: less the channel's
    mean, by its deviation; zscore_masked: of the voxels of `mask` (*S), others stay. rescale: to [0, 1]. rgb: by 255.
    """
    if scheme not in SCHEMES:
        raise InvalidArgumentError("bad scheme", where="normalise", expected=", ".join(SCHEMES), got=scheme)
    given = np.ascontiguousarray(channel, np.float32)
    deep = given.reshape((1,) * (3 - given.ndim) + given.shape)
    arguments: dict[str, Any] = {"mean": float(mean), "std": float(std), "lower": float(lower), "upper": float(upper)}
    if mask is not None:
        chosen = np.ascontiguousarray(np.asarray(mask) != 0, np.uint8)
        if chosen.shape != given.shape:
            raise ShapeError("bad mask", where="normalise", expected=given.shape, got=chosen.shape)
        arguments["mask"] = chosen.reshape(deep.shape)
    made = _call("volume_normalise", x=deep, scheme=SCHEMES.index(scheme), **arguments)["y"]
    return np.asarray(made).reshape(given.shape)


def nonzero(volume: Any) -> tuple[npt.NDArray[np.bool_], tuple[slice, ...]]:
    """Where any channel of a volume (C, *S) is not zero, with the holes in it, bool (*S), and the box around that.

    The box is all of the volume where everything is zero. A 2-D image has no holes: it is open above and below, as in
    nnU-Net.
    """
    given = _volume(volume, "nonzero")
    made = _call("volume_nonzero", x=_deep(given))
    box = tuple(slice(int(begin), int(end)) for begin, end in made["box"])
    return np.asarray(made["mask"]).reshape(given.shape[1:]).astype(bool), box[4 - given.ndim :]


def tile_starts(size: int, tile: int, step: float = 0.5) -> list[int]:
    """Where tiles begin along an axis of `size` samples, `tile` or more: at most step * tile apart, evenly spread."""
    starts = _call("tile_starts", size=int(size), tile=int(tile), step=float(step))["starts"]
    return [int(start) for start in starts if start >= 0]


def gaussian_map(tile: Sequence[int], sigma_scale: float = 0.125) -> Floats:
    """How much the voxels of a tile count where tiles overlap, float32 (*tile): a Gaussian whose peak is 1.

    Its deviation is sigma_scale of each extent; it is cut off after four, and zeros are the smallest other weight.
    """
    deep = [1] * (3 - len(tile)) + [int(extent) for extent in tile]
    made = _call("gaussian_map", depth=deep[0], height=deep[1], width=deep[2], sigma_scale=float(sigma_scale))
    return np.asarray(made["weights"]).reshape(tuple(tile))


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
    """The bytes of a .nii.gz (or .nii) file of an array (D, H, W), uint8, int16, uint16 or float32.

    header: of `read_nifti`, whose orientation and spacing stay. Without it spacing, of D, H and W in mm, and affine
    (3, 4) or (4, 4), from (column, row, slice, 1) to mm.
    """
    given: dict[str, Any] = {"array": np.ascontiguousarray(array)}
    if header is not None:
        given["header"] = np.frombuffer(header, np.uint8)
    else:
        given["spacing"] = np.asarray(spacing, np.float64)
        if affine is not None:
            given["affine"] = np.ascontiguousarray(np.asarray(affine, np.float64)[:3])
    made = NativeProcessor("medical", "nifti_file", {"compress": compress}).run(**given)
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


def _volume(volume: Any, where: str) -> Floats:
    given: Floats = np.ascontiguousarray(volume, np.float32)
    if given.ndim not in (3, 4):
        raise ShapeError("bad volume", where=where, expected="(C, D, H, W) or (C, H, W)", got=given.shape)
    return given


def _deep(volume: Floats) -> Floats:
    return volume if volume.ndim == 4 else volume[:, None]


def _call(name: str, **arguments: Any) -> Mapping[str, Any]:
    from mambasdk import runtime

    host = get_host()
    host.activate(next(record for record in host.records if record.name == "medical"))
    made: Mapping[str, Any] = runtime.call(name, **arguments)
    return made

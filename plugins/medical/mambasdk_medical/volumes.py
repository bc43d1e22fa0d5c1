"""Volumes prepared by the code that a package runs: thin faces of the plugin's operations.

Arrays are float32 (C, D, H, W) or (C, H, W), the file's x fastest: what nnU-Net's readers give, and nibabel's
`get_fdata().T`. Spacing is in mm in the order of the axes. Results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.plugins.host import get_host

Floats: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
SCHEMES = ("none", "ct", "zscore", "zscore_masked", "rescale", "rgb")


def resample(
    volume: Any,
    shape: Sequence[int],
    order: int = 3,
    order_z: int | None = None,
    axis: int | None = None,
    *,
    clip: bool = True,
) -> Floats:
    """volume, float32 (C, *S), at `shape` positions by B-splines: float32 (C, *shape).

    order: 0 (nearest), 1 (linear) or 3 (cubic); as scipy.ndimage.zoom(mode="nearest", grid_mode=True), which repeats
    the edges. axis: of S, one that is resampled after the others, with order_z. clip: a cubic stays in the range of its
    channel, or, with an axis, of its plane across that, as in nnU-Net.
    """
    given = _volume(volume, "resample")
    dims = given.ndim - 1
    if len(shape) != dims or min(shape) < 1:
        raise ShapeError("bad shape", where="resample", expected=f"{dims} extents of 1 or more", got=tuple(shape))
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
        clip=clip,
    )["y"]
    return np.asarray(made).reshape(len(given), *shape)


def new_shape(shape: Sequence[int], spacing: Sequence[float], target_spacing: Sequence[float]) -> tuple[int, ...]:
    """Extents after resampling from one spacing to another, rounded to the nearest, halves to even; 1 at least."""
    return _grid(shape, spacing, target_spacing, 3.0)[0]


def separate_axis(spacing: Sequence[float], target_spacing: Sequence[float], threshold: float = 3.0) -> int | None:
    """The axis that is resampled apart: the one of the largest spacing, by nnU-Net's rule.

    Where the largest is more than `threshold` times the smallest, before or else after; None where it is not, or two
    axes share it.
    """
    return _grid([1] * len(spacing), spacing, target_spacing, threshold)[1]


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


def nonzero_mask(volume: Any) -> Mask:
    """Where any channel of a volume (C, *S) is not zero, with the holes in it, bool (*S).

    An image (C, H, W) or (C, 1, H, W) has no holes: it is open above and below, as in nnU-Net.
    """
    given = _volume(volume, "nonzero_mask")
    return np.asarray(_call("volume_nonzero", x=_deep(given))["mask"]).reshape(given.shape[1:]).astype(bool)


def nonzero_box(mask: Any) -> tuple[tuple[int, int], ...]:
    """(begin, end) on each axis of the smallest box with all of a mask (*S); the whole of an empty one."""
    given = _volume(np.asarray(mask)[None] != 0, "nonzero_box")
    box = _call("volume_nonzero", x=_deep(given), fill=False)["box"][4 - given.ndim :]
    return tuple((int(begin), int(end)) for begin, end in box)


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


def _grid(
    shape: Sequence[int], spacing: Sequence[float], target_spacing: Sequence[float], threshold: float
) -> tuple[tuple[int, ...], int | None]:
    dims = len(shape)
    if not 2 <= dims <= 3 or len(spacing) != dims or len(target_spacing) != dims:
        got = tuple(spacing), tuple(target_spacing)
        raise ShapeError("bad spacing", where="resampling", expected=f"{dims} numbers", got=got)
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

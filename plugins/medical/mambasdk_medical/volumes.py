"""Numeric kernels of volumes: resampling, normalisation, crop, tiles. Volumes are float32 (C, *S)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mambasdk.errors import InvalidArgumentError

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
_LEAST_DEVIATION = 1e-8
_SIGMA = 1 / 8  # of the tile


def resample(
    volume: Floats, shape: Sequence[int], order: int = 3, order_z: int | None = None, axis: int | None = None
) -> Floats:
    """(C, *S) to (C, *shape) by B-splines of `order` (0, 1 or 3) on grids whose outer borders are the same.

    Edges are repeated. With order 3 values stay in the range of the source. axis, order_z: an axis of S that is
    resampled by itself, after the others, with its own order. Source: scipy.ndimage.zoom(grid_mode=True).
    """
    shape = tuple(int(extent) for extent in shape)
    if len(shape) != volume.ndim - 1 or min(shape) < 1:
        raise InvalidArgumentError(
            "bad shape", where="resample", expected=f"{volume.ndim - 1} extents of 1 or more", got=shape
        )
    if volume.shape[1:] == shape:
        return volume.astype(np.float32, copy=True)
    if axis is None or order_z is None:
        return np.stack([_zoomed(channel, shape, order) for channel in volume])
    planes = np.moveaxis(volume, axis + 1, 1)  # (C, Z, *plane)
    flat = tuple(extent for i, extent in enumerate(shape) if i != axis)
    made = np.stack([np.stack([_zoomed(plane, flat, order) for plane in channel]) for channel in planes])
    count, wanted = made.shape[1], shape[axis]
    if count != wanted:
        if order_z == 0:
            made = made[:, np.clip(np.floor((np.arange(wanted) + 0.5) * count / wanted).astype(int), 0, count - 1)]
        else:
            made = np.stack([_zoomed(channel, (wanted, *flat), order_z) for channel in made])
    return np.ascontiguousarray(np.moveaxis(made, 1, axis + 1), np.float32)


def _zoomed(array: Floats, shape: tuple[int, ...], order: int) -> Floats:
    if array.shape == shape:
        return array.astype(np.float32)
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    made = ndimage.zoom(array.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    if order > 1:
        made = made.clip(array.min(), array.max())
    found: Floats = made.astype(np.float32)
    return found


def separate_axis(spacing: Sequence[float], target_spacing: Sequence[float], threshold: float = 3.0) -> int | None:
    """The axis that is resampled by itself: the one coarsest axis of the source, else of the target, where it is more
    than `threshold` times the finest. None where there is none, or two are as coarse.
    """
    for distances in (spacing, target_spacing):
        if max(distances) / min(distances) > threshold:
            coarsest = [axis for axis, value in enumerate(distances) if value == max(distances)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def new_shape(shape: Sequence[int], spacing: Sequence[float], target_spacing: Sequence[float]) -> tuple[int, ...]:
    """Extents of a volume after resampling, half to even, at least 1."""
    given = zip(shape, spacing, target_spacing, strict=True)
    return tuple(max(round(float(before) / float(after) * extent), 1) for extent, before, after in given)


def nonzero_mask(volume: Floats) -> Mask:
    """Bool (*S) where any channel of (C, *S) is not 0, with its holes filled."""
    found: Mask = ndimage.binary_fill_holes((volume != 0).any(0))
    return found


def nonzero_box(mask: Mask) -> tuple[tuple[int, int], ...]:
    """(begin, end) on each axis of the smallest box with all of a mask; the whole of an empty one."""
    found = ndimage.find_objects(mask.astype(np.int8), 1)
    if not found or found[0] is None:
        return tuple((0, extent) for extent in mask.shape)
    return tuple((part.start, part.stop) for part in found[0])


def normalise(
    channel: Floats,
    scheme: str,
    mean: float = 0.0,
    std: float = 1.0,
    lower: float = 0.0,
    upper: float = 0.0,
    mask: Mask | None = None,
) -> Floats:
    """One channel (*S) by its scheme.

    "ct": clipped to lower and upper, then less mean and over std. "zscore": by its own mean and deviation;
    "zscore_masked": by those of the voxels of `mask`, and no others change. "rescale": its least becomes 0, its most 1.
    "rgb": over 255. "none": as it is.
    """
    if scheme == "ct":
        return _scaled(channel.clip(lower, upper), mean, std)
    if scheme == "zscore":
        return _scaled(channel, channel.mean(dtype=np.float64), channel.std(dtype=np.float64))
    if scheme == "zscore_masked" and mask is not None:
        made, inside = channel.astype(np.float32, copy=True), channel[mask]
        made[mask] = _scaled(inside, inside.mean(dtype=np.float64), inside.std(dtype=np.float64))
        return made
    if scheme == "rescale":
        return _scaled(channel, channel.min(), channel.max() - channel.min())
    if scheme == "rgb":
        return _scaled(channel, 0.0, 255.0)
    if scheme == "none":
        return channel.astype(np.float32, copy=True)
    raise InvalidArgumentError(
        "no such normalisation",
        where="normalise",
        expected="ct, zscore, zscore_masked with a mask, none, rescale or rgb",
        got=repr(scheme),
    )


def _scaled(values: Floats, middle: float, width: float) -> Floats:
    made: Floats = ((values - np.float32(middle)) / np.float32(max(width, _LEAST_DEVIATION))).astype(np.float32)
    return made


def tile_starts(size: int, tile: int, step: float = 0.5) -> list[int]:
    """Where tiles start on an axis, so that neighbours lie at most `step` of a tile apart (0 < step <= 1)."""
    if not 0 < step <= 1:
        raise InvalidArgumentError("bad step", where="tile_starts", expected="above 0, at most 1", got=step)
    if size < tile:
        raise InvalidArgumentError(
            "the image is smaller than the tile", where="tile_starts", expected=f"at least {tile}", got=size
        )
    count = int(np.ceil((size - tile) / (tile * step))) + 1
    stride = (size - tile) / max(count - 1, 1)
    return [int(np.round(stride * i)) for i in range(count)]


def gaussian_map(tile: Sequence[int]) -> Floats:
    """Weights (*tile) of a tile's voxels: a Gaussian of an eighth of the tile around its centre, 1 at most, never 0."""
    weights = np.zeros(tuple(tile), np.float64)
    weights[tuple(extent // 2 for extent in tile)] = 1
    weights = ndimage.gaussian_filter(weights, [extent * _SIGMA for extent in tile], order=0, mode="constant")
    weights /= weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    found: Floats = weights.astype(np.float32)
    return found

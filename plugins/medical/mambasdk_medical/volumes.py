"""Numeric kernels of volumes: resampling, normalisation, tiles. Arrays are float32 (C, *S)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mambasdk.errors import InvalidArgumentError

Floats = npt.NDArray[np.float32]
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


def normalise(
    volume: Floats,
    schemes: Sequence[str],
    statistics: Sequence[Mapping[str, Any]],
    mask: npt.NDArray[np.bool_] | None = None,
) -> Floats:
    """Each channel by its scheme: "ct", "zscore", "none" or "rescale".

    statistics: of each channel percentile_00_5, percentile_99_5, mean and std of the data set's foreground (ct); min
    and max instead of the image's own (rescale); use_mask: mean and deviation of the voxels of `mask` alone, and
    nothing else changes (zscore). mask: bool (*S).
    """
    if not len(volume) == len(schemes) == len(statistics):
        raise InvalidArgumentError(
            "a scheme for each channel", where="normalise", expected=len(volume), got=len(schemes)
        )
    given = zip(volume, schemes, statistics, strict=True)
    return np.stack([_normalised(channel, scheme, known, mask) for channel, scheme, known in given])


def _normalised(
    channel: Floats, scheme: str, known: Mapping[str, Any], mask: npt.NDArray[np.bool_] | None
) -> Floats:
    if scheme == "ct":
        clipped = channel.clip(known["percentile_00_5"], known["percentile_99_5"])
        return _scaled(clipped, known["mean"], known["std"])
    if scheme == "zscore":
        if not known.get("use_mask") or mask is None:
            return _scaled(channel, channel.mean(dtype=np.float64), channel.std(dtype=np.float64))
        made = channel.astype(np.float32, copy=True)
        inside = channel[mask]
        made[mask] = _scaled(inside, inside.mean(dtype=np.float64), inside.std(dtype=np.float64))
        return made
    if scheme == "rescale":
        low, high = float(known.get("min", channel.min())), float(known.get("max", channel.max()))
        return _scaled(channel, low, high - low)
    if scheme == "none":
        return channel.astype(np.float32, copy=True)
    raise InvalidArgumentError(
        "no such normalisation", where="normalise", expected="ct, zscore, none or rescale", got=repr(scheme)
    )


def _scaled(values: Floats, middle: float, width: float) -> Floats:
    made: Floats = ((values - np.float32(middle)) / np.float32(max(width, _LEAST_DEVIATION))).astype(np.float32)
    return made


def tile_starts(size: Sequence[int], tile: Sequence[int], step: float = 0.5) -> list[list[int]]:
    """Where tiles start on each axis, so that neighbours lie at most `step` of a tile apart (0 < step <= 1)."""
    if not 0 < step <= 1:
        raise InvalidArgumentError("bad step", where="tile_starts", expected="above 0, at most 1", got=step)
    if any(extent < part for extent, part in zip(size, tile, strict=True)):
        raise InvalidArgumentError(
            "the image is smaller than the tile", where="tile_starts", expected=f"at least {tuple(tile)}", got=size
        )
    found = []
    for extent, part in zip(size, tile, strict=True):
        count = int(np.ceil((extent - part) / (part * step))) + 1
        stride = (extent - part) / max(count - 1, 1)
        found.append([int(np.round(stride * i)) for i in range(count)])
    return found


def gaussian_map(tile: Sequence[int]) -> Floats:
    """Weights (*tile) of a tile's voxels: a Gaussian of an eighth of the tile around its centre, 1 at most, never 0."""
    weights = np.zeros(tuple(tile), np.float64)
    weights[tuple(extent // 2 for extent in tile)] = 1
    weights = ndimage.gaussian_filter(weights, [extent * _SIGMA for extent in tile], order=0, mode="constant")
    weights /= weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    found: Floats = weights.astype(np.float32)
    return found

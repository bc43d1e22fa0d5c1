"""Logits of an image of any size from overlapping tiles, weighted by a Gaussian, in float32. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk_medical import volumes

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]
"""(B, C, *patch) to logits (B, K, *patch)."""


def predict(
    run: Run,
    image: Floats,
    patch: Sequence[int],
    *,
    step: float = 0.5,
    mirror_axes: Sequence[int] = (),
    gaussian: bool = True,
) -> Floats:
    """Logits (K, *S) of an image (C, *S).

    patch: of a tile; with two extents for an image with three axes every slice along the first is an image of its own.
    step: how far tiles move, of their size. mirror_axes: axes of the patch; logits are the mean over every set of them,
    mirrored back. An image that is smaller than the patch is padded by 0, on both sides, and cut back.
    """
    if len(patch) == image.ndim - 2:
        slices = track(range(image.shape[1]), "predicting slices", image.shape[1])
        settings = {"step": step, "mirror_axes": mirror_axes, "gaussian": gaussian}
        return np.stack([_predict(run, image[:, index], patch, **settings) for index in slices], 1)  # type: ignore[arg-type]
    if len(patch) != image.ndim - 1:
        raise InvalidArgumentError(
            "the patch has other axes than the image", where="predict", expected=f"{image.ndim - 1}", got=tuple(patch)
        )
    return _predict(run, image, patch, step=step, mirror_axes=mirror_axes, gaussian=gaussian, shown=True)


def _predict(
    run: Run,
    image: Floats,
    patch: Sequence[int],
    *,
    step: float,
    mirror_axes: Sequence[int],
    gaussian: bool,
    shown: bool = False,
) -> Floats:
    padded, inside = pad(image, patch)
    size = padded.shape[1:]
    weights = volumes.gaussian_map(patch) if gaussian else np.ones(tuple(patch), np.float32)
    total: Floats | None = None
    seen = np.zeros(size, np.float32)
    starts = list(product(*(volumes.tile_starts(s, p, step) for s, p in zip(size, patch, strict=True))))
    for start in track(starts, "predicting tiles", len(starts)) if shown else starts:
        inner = tuple(slice(first, first + part) for first, part in zip(start, patch, strict=True))
        window = (slice(None), *inner)
        logits = mirrored(run, padded[window], mirror_axes)
        if total is None:
            total = np.zeros((len(logits), *size), np.float32)
        total[window] += logits * weights
        seen[inner] += weights
    assert total is not None  # tile_starts gives one tile or more
    total /= seen
    return np.ascontiguousarray(total[inside])


def mirrored(run: Run, tile: Floats, axes: Sequence[int]) -> Floats:
    """Mean logits (K, *patch) of a tile (C, *patch) and of its mirror images."""
    total: Floats | None = None
    count = 0
    for flipped in _subsets(axes):
        dims = tuple(axis + 1 for axis in flipped)
        logits = np.flip(run(np.ascontiguousarray(np.flip(tile, dims))[None])[0], dims)
        total = logits.astype(np.float32) if total is None else total + logits
        count += 1
    assert total is not None  # the empty set is one of them
    made: Floats = total / np.float32(count)
    return made


def _subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in range(len(axes) + 1):
        yield from combinations(axes, count)


def pad(image: Floats, patch: Sequence[int]) -> tuple[Floats, tuple[slice, ...]]:
    """The image (C, *S) with zeros around it where it is smaller than the patch, and where (C, *S) lies in that."""
    missing = [max(part - extent, 0) for extent, part in zip(image.shape[1:], patch, strict=True)]
    before = [count // 2 for count in missing]
    inner = (slice(first, first + extent) for first, extent in zip(before, image.shape[1:], strict=True))
    inside = (slice(None), *inner)
    if not any(missing):
        return image, inside
    widths = [(0, 0), *((first, count - first) for first, count in zip(before, missing, strict=True))]
    return np.pad(image, widths), inside

"""Affine maps of images with their boxes, and changes of colour. NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk_vision.detection.boxes import Array, areas

Image = npt.NDArray[np.uint8]

# Of a box after a map, as YOLO keeps them: least side in pixels, least share of its area, largest ratio of its sides.
LEAST_SIDE, LEAST_SHARE, LARGEST_RATIO = 2.0, 0.1, 100.0


def warp(image: Image, matrix: Array, size: tuple[int, int], fill: int) -> Image:
    """(h, w, 3) to (*size, 3) by `matrix` (2, 3), which takes x, y of the image to the result; bilinear.

    Coordinates count from the corner of the first pixel. What lies outside the image is `fill`.
    """
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    x, y = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    if inverse[0, 1] == inverse[1, 0] == 0:  # columns and rows by themselves
        rows = _between(image, inverse[1, 1] * y + inverse[1, 2] - 0.5, 0, fill)
        both = _between(rows, inverse[0, 0] * x + inverse[0, 2] - 0.5, 1, fill)
    else:
        at_x = inverse[0, 0] * x + inverse[0, 1] * y[:, None] + inverse[0, 2] - 0.5  # (H, W)
        at_y = inverse[1, 0] * x + inverse[1, 1] * y[:, None] + inverse[1, 2] - 0.5
        both = _anywhere(image, at_x, at_y, fill)
    return np.rint(both).astype(np.uint8)


def _between(image: npt.NDArray[Any], places: Array, axis: int, fill: int) -> npt.NDArray[np.float32]:
    """The image at `places` along an axis."""
    count = image.shape[axis]
    edge = [(1, 1) if dim == axis else (0, 0) for dim in range(3)]
    padded = np.pad(image, edge, constant_values=fill)
    low = np.clip(np.floor(places), -1, count).astype(np.int64)
    share = np.clip(places - low, 0, 1).astype(np.float32)
    share = share.reshape([-1 if dim == axis else 1 for dim in range(3)])
    first = padded.take(low + 1, axis).astype(np.float32)
    second = padded.take(np.minimum(low + 2, count + 1), axis)
    result: npt.NDArray[np.float32] = first + (second - first) * share
    return result


def _anywhere(image: Image, x: Array, y: Array, fill: int) -> npt.NDArray[np.float32]:
    height, width = image.shape[:2]
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=fill)
    left = np.clip(np.floor(x), -1, width).astype(np.int64)
    top = np.clip(np.floor(y), -1, height).astype(np.int64)
    share_x = np.clip(x - left, 0, 1).astype(np.float32)[..., None]
    share_y = np.clip(y - top, 0, 1).astype(np.float32)[..., None]
    right, bottom = np.minimum(left + 2, width + 1), np.minimum(top + 2, height + 1)
    left, top = left + 1, top + 1
    upper = padded[top, left] + (padded[top, right].astype(np.float32) - padded[top, left]) * share_x
    lower = padded[bottom, left] + (padded[bottom, right].astype(np.float32) - padded[bottom, left]) * share_x
    result: npt.NDArray[np.float32] = upper + (lower - upper) * share_y
    return result


def warp_boxes(targets: Array, matrix: Array, size: tuple[int, int]) -> Array:
    """Targets (n, 5), class and corners, by `matrix`: the boxes around the four corners, cut off at the edges.

    Boxes of which too little is left are dropped.
    """
    if not len(targets):
        return targets
    x1, y1, x2, y2 = targets[:, 1:].T
    points = np.stack([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]).transpose(2, 0, 1)  # (n, 4, 2)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    whole = np.concatenate([moved.min(1), moved.max(1)], 1)
    return clip_targets(np.concatenate([targets[:, :1], whole], 1), size)


def clip_targets(targets: Array, size: tuple[int, int]) -> Array:
    """Targets (n, 5) cut off at the edges; boxes of which too little is left are dropped."""
    height, width = size
    cut = np.clip(targets[:, 1:], 0, (width, height, width, height))
    sides = cut[:, 2:] - cut[:, :2]
    ratio = np.maximum(sides[:, 0], sides[:, 1]) / np.maximum(np.minimum(sides[:, 0], sides[:, 1]), 1e-9)
    enough = areas(cut) > LEAST_SHARE * areas(targets[:, 1:])
    kept = (sides > LEAST_SIDE).all(1) & enough & (ratio < LARGEST_RATIO)
    return np.concatenate([targets[:, :1], cut], 1)[kept]


def shift_colours(images: Image, gains: Array) -> Image:
    """(…, 3) with hue moved by gains[0] (share of the circle), saturation and value times gains[1] and gains[2]."""
    rgb = images.astype(np.float32)
    value = rgb.max(-1)
    chroma = value - rgb.min(-1)
    safe = np.maximum(chroma, 1e-6)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    hue = np.where(
        value == red, (green - blue) / safe, np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )  # sixths of the circle
    hue = np.mod(hue + 6 * np.float32(gains[0]), 6)
    saturation = np.minimum(chroma / np.maximum(value, 1e-6) * np.float32(gains[1]), 1)
    value = np.minimum(value * np.float32(gains[2]), 255)
    span = value * saturation
    result = np.empty_like(rgb)
    for channel, offset in enumerate((5, 3, 1)):
        place = np.mod(offset + hue, 6)
        result[..., channel] = value - span * np.clip(np.minimum(place, 4 - place), 0, 1)
    return np.rint(result).astype(np.uint8)

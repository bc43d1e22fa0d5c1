"""Random affine maps of crops, as a function of (seed, step) alone. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CropAugmentation:
    """What crops of people go through (arXiv 1804.06208, arXiv 1902.09212).

    flip: mirror every second crop. scale: the largest change of size, as a share: sizes go from 1 - scale to
    1 + scale. rotation: the largest angle, degrees, of six crops in ten. shift: the largest movement, as a share of the
    sides. half_body: share of the crops that show the upper or lower half of a body alone, where it has enough keypoints.
    """

    flip: bool = True
    scale: float = 0.25
    rotation: float = 30.0
    shift: float = 0.05
    half_body: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("scale", 1.0), ("rotation", 360.0), ("shift", 1.0), ("half_body", 1.0 + 1e-9)):
            value = getattr(self, name)
            if not 0 <= value < most:
                raise InvalidArgumentError(
                    f"bad {name}", where="CropAugmentation", expected=f"from 0 to below {most:g}", got=value
                )

    def __call__(
        self,
        keypoints: Array,
        size: tuple[int, int],
        upper_body: Sequence[int],
        seed: int,
        step: int,
        rank: int = 0,
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """(n, 2, 3), from new crops to the old ones, and bool (n), which of them are mirrored.

        keypoints: (n, K, 3) in the old crops, with visibility. size: (height, width) of a crop. upper_body: the
        keypoints above the hips. rank: of several processes that train together.
        """
        chance = np.random.default_rng((seed, step, rank) if rank else (seed, step))
        count = len(keypoints)
        flipped = chance.random(count) < 0.5 * self.flip
        scales = chance.uniform(1 - self.scale, 1 + self.scale, count)
        angles = np.deg2rad(chance.uniform(-self.rotation, self.rotation, count) * (chance.random(count) < 0.6))
        moves = chance.uniform(-self.shift, self.shift, (count, 2)) * np.array([size[1], size[0]])
        halves = chance.random(count) < self.half_body
        uppers = chance.random(count) < 0.5
        centre = np.array([size[1], size[0]]) / 2
        maps = np.zeros((count, 2, 3))
        for i in range(count):
            target, zoom = centre, 1.0
            if halves[i] and (half := _half(keypoints[i], upper_body, uppers[i], size)) is not None:
                target, zoom = half
            cosine, sine = np.cos(angles[i]) * scales[i] * zoom, np.sin(angles[i]) * scales[i] * zoom
            turn = np.array([[cosine, -sine], [sine, cosine]])
            offset = target + moves[i] - turn @ centre
            if flipped[i]:  # column u of the new crop is column width - 1 - u of the one that is not mirrored
                offset = offset + turn[:, 0] * (size[1] - 1)
                turn = turn * np.array([-1, 1])
            maps[i] = np.concatenate([turn, offset[:, None]], 1)
        return maps, flipped


def _half(
    keypoints: Array, upper_body: Sequence[int], upper: bool, size: tuple[int, int]
) -> tuple[Array, float] | None:
    """Centre and relative size of a crop of half a body; None where it has fewer than three keypoints."""
    above = np.isin(np.arange(len(keypoints)), upper_body)
    seen = keypoints[:, 2] > 0
    own = seen & (above if upper else ~above)
    if own.sum() < 3:
        own = seen & (~above if upper else above)
    if own.sum() < 3:
        return None
    points = keypoints[own, :2]
    extent = points.max(0) - points.min(0)
    zoom = 1.5 * max(extent[0] / size[1], extent[1] / size[0])
    return (points.max(0) + points.min(0)) / 2, float(np.clip(zoom, 0.2, 1.0))


def composed(outer: Array, inner: Array) -> Array:
    """The maps (n, 2, 3) that apply `inner` first and then `outer`."""
    turned = outer[:, :, :2] @ inner
    turned[:, :, 2] += outer[:, :, 2]
    result: Array = turned
    return result


def undone(maps: Array, points: Array) -> Array:
    """Points (n, K, 2) that the maps (n, 2, 3) take to `points` (n, K, 2)."""
    inverse = np.linalg.inv(maps[:, :, :2])
    result: Array = (points - maps[:, None, :, 2]) @ inverse.transpose(0, 2, 1)
    return result

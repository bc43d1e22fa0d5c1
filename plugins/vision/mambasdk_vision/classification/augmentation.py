"""Random flips and shifts of training images, as a function of (seed, step) alone. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """flip: mirror every second image, left for right. shift: the most an image is moved each way, as a share of its
    side; what comes in at the edge is mirrored.
    """

    flip: bool = True
    shift: float = 0.125

    def __post_init__(self) -> None:
        if not 0 <= self.shift < 1:
            raise InvalidArgumentError("bad shift", where="Augmentation", expected="from 0 to below 1", got=self.shift)

    def __call__(self, images: Images, seed: int, step: int, rank: int = 0) -> Images:
        """Map uint8 (N, H, W, 3) to the same shape. rank: of several processes that train together."""
        chance = np.random.default_rng((seed, step, rank) if rank else (seed, step))
        flipped = chance.random(len(images)) < 0.5 * self.flip
        images = np.where(flipped[:, None, None, None], images[:, :, ::-1], images)
        reach = [int(self.shift * side) for side in images.shape[1:3]]  # (rows, columns)
        moves = [chance.integers(0, 2 * far + 1, len(images)) for far in reach]
        if not any(reach):
            return images
        _, height, width, _ = images.shape
        wide = np.pad(images, ((0, 0), (reach[0],) * 2, (reach[1],) * 2, (0, 0)), mode="symmetric")
        crops = [
            image[top : top + height, left : left + width]
            for image, top, left in zip(wide, moves[0], moves[1], strict=True)
        ]
        return np.stack(crops)

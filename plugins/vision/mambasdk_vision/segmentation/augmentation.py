"""Random scale, crop and flip of images with their masks, as a function of (seed, step) alone. Needs torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.segmentation.data import IGNORE


@dataclass(frozen=True)
class SceneAugmentation:
    """scale: least and most enlargement, by which a part is cut out or what is around is ignored. flip: mirror every
    second image, left for right.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    flip: bool = True

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high:
            raise InvalidArgumentError(
                "bad scale",
                where="SceneAugmentation",
                expected="two numbers above 0, in order",
                got=self.scale,
            )

    def __call__(self, images: Tensor, masks: Tensor, seed: int, step: int, rank: int = 0) -> tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W), normalised, and masks int64 (N, H, W) to the same shapes.

        Images are sampled bilinearly, masks at the nearest pixel; outside of the image they are 0 and IGNORE. rank: of
        several processes that train together.
        """
        chance = np.random.default_rng((seed, step, rank) if rank else (seed, step))
        count = len(images)
        low, high = np.log(self.scale)
        step_size = np.exp(-chance.uniform(low, high, count))  # in the source, of one pixel
        # The window stays within the image, or the image within the window.
        shift = chance.uniform(-1, 1, (2, count)) * np.abs(1 - step_size)
        mirrored = np.where(chance.random(count) < 0.5 * self.flip, -1.0, 1.0)
        affine = np.zeros((count, 2, 3), np.float32)
        affine[:, 0, 0], affine[:, 0, 2] = step_size * mirrored, shift[0]
        affine[:, 1, 1], affine[:, 1, 2] = step_size, shift[1]
        size = [count, 1, *images.shape[2:]]
        grid = functional.affine_grid(torch.from_numpy(affine).to(images.device), size, align_corners=False)
        moved = functional.grid_sample(images.float(), grid, mode="bilinear", align_corners=False)
        # One up, so that the zeros around are no class.
        numbers = functional.grid_sample(masks[:, None].float() + 1, grid, mode="nearest", align_corners=False)[:, 0]
        labels = numbers.long() - 1
        return moved.to(images.dtype), torch.where(labels < 0, IGNORE, labels)

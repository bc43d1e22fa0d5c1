"""nnU-Net's augmentations by its own library batchgeneratorsv2, as a function of a seed alone. Needs torch.

Rotation, scaling, noise, blur, brightness, contrast, low resolution, gamma, mirroring: probabilities and ranges are
those of nnU-Net v2 (arXiv 1904.08128).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambasdk.errors import require_module

_INSTALL = "pip install batchgeneratorsv2, or train with --no-augmentation"
_FLAT = 3  # a patch whose first axis is so many times shorter is turned in its planes alone
_LEAST_SCALE = 0.85  # of the cut-out that nnU-Net provides for


class Augmentation:
    """Turns patches of `cut_size` into augmented ones of `patch_size`.

    patch_size: (H, W) or (D, H, W). outside: the label where a turned patch reaches beyond the cut-out.
    Raises MissingDependencyError where batchgeneratorsv2 is not installed.
    """

    def __init__(self, patch_size: Sequence[int], *, outside: int = 0) -> None:
        self.patch_size = tuple(patch_size)
        dims = len(self.patch_size)
        self._flat = dims == 3 and max(self.patch_size) / self.patch_size[0] > _FLAT
        plane = self.patch_size[1:] if self._flat else self.patch_size
        of_plane = 15.0 if max(plane) / min(plane) > 1.5 else 180.0  # degrees
        self._angle = math.radians(of_plane if len(plane) == 2 else 30.0)
        turned = tuple(_reach(plane, self._angle))
        self.cut_size = (self.patch_size[0], *turned) if self._flat else turned
        self.mirror_axes = tuple(range(dims))
        self._transforms = self._chain(plane, outside)

    def __call__(
        self, image: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], seed: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """float32 (C, *cut_size) and integers (*cut_size) to (C, *patch_size) and int16 (*patch_size)."""
        with _seeded(seed):  # copies, since some transforms work in place
            made = self._transforms(
                image=torch.from_numpy(np.array(image, np.float32)),
                segmentation=torch.from_numpy(np.array(labels, np.int16))[None],
            )
        return made["image"].contiguous(), made["segmentation"][0].contiguous()

    def _chain(self, plane: tuple[int, ...], outside: int) -> Any:
        def load(module: str, name: str) -> Any:
            return getattr(require_module(f"batchgeneratorsv2.transforms.{module}", "augmentation", _INSTALL), name)

        chance = load("utils.random", "RandomTransform")
        around = load("intensity.contrast", "BGContrast")
        gamma = load("intensity.gamma", "GammaTransform")
        spatial = load("spatial.spatial", "SpatialTransform")(
            plane,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=0.2,
            rotation=(-self._angle, self._angle),
            p_scaling=0.2,
            scaling=(0.7, 1.4),
            p_synchronize_scaling_across_axes=1,
            border_mode_seg="constant",
            padding_value_seg=outside,
        )
        steps = [spatial]
        if self._flat:
            steps = [
                load("utils.pseudo2d", "Convert3DTo2DTransform")(),
                spatial,
                load("utils.pseudo2d", "Convert2DTo3DTransform")(),
            ]
        of_channels = {"synchronize_channels": False, "p_per_channel": 1}
        return load("utils.compose", "ComposeTransforms")(
            [
                *steps,
                chance(
                    load("intensity.gaussian_noise", "GaussianNoiseTransform")(
                        noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True
                    ),
                    0.1,
                ),
                chance(
                    load("noise.gaussian_blur", "GaussianBlurTransform")(
                        blur_sigma=(0.5, 1.0), synchronize_channels=False, synchronize_axes=False, p_per_channel=0.5
                    ),
                    0.2,
                ),
                chance(
                    load("intensity.brightness", "MultiplicativeBrightnessTransform")(
                        multiplier_range=around((0.75, 1.25)), **of_channels
                    ),
                    0.15,
                ),
                chance(
                    load("intensity.contrast", "ContrastTransform")(
                        contrast_range=around((0.75, 1.25)), preserve_range=True, **of_channels
                    ),
                    0.15,
                ),
                chance(
                    load("spatial.low_resolution", "SimulateLowResolutionTransform")(
                        scale=(0.5, 1),
                        synchronize_channels=False,
                        synchronize_axes=True,
                        ignore_axes=(0,) if self._flat else None,
                        p_per_channel=0.5,
                    ),
                    0.25,
                ),
                chance(gamma(gamma=around((0.7, 1.5)), p_invert_image=1, p_retain_stats=1, **of_channels), 0.1),
                chance(gamma(gamma=around((0.7, 1.5)), p_invert_image=0, p_retain_stats=1, **of_channels), 0.3),
                load("spatial.mirroring", "MirrorTransform")(allowed_axes=self.mirror_axes),
            ]
        )


def _reach(size: Sequence[int], angle: float) -> list[int]:
    """Extents of what a patch turned by up to `angle` about any axis, and then enlarged, may touch."""
    angle = min(angle, math.pi / 2)
    reach = [float(extent) for extent in size]
    for axis, extent in enumerate(size):
        for other, side in enumerate(size):
            if other != axis:
                best = min(angle, math.atan2(side, extent))
                reach[axis] = max(reach[axis], extent * math.cos(best) + side * math.sin(best))
    return [int(extent / _LEAST_SCALE) for extent in reach]


@contextlib.contextmanager
def _seeded(seed: Sequence[int]) -> Iterator[None]:
    """NumPy's global numbers and torch's as a function of `seed`; both go on as if nothing was drawn inside."""
    before = np.random.get_state()
    numbers = np.random.SeedSequence(list(seed)).generate_state(2, np.uint32)
    try:
        with torch.random.fork_rng([]):
            np.random.seed(numbers[0])
            torch.manual_seed(int(numbers[1]))
            yield
    finally:
        np.random.set_state(before)

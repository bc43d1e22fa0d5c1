"""Random changes of training images with their boxes, as a function of (seed, step) alone. NumPy alone.

Mosaic (arXiv 2004.10934), mixup (arXiv 1710.09412), scale, translation and rotation, mirror images, colours; names and
defaults are those of the `yolo` command line.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.detection.boxes import Array, centres
from mambasdk_vision.detection.pixels import LabelledPixels
from mambasdk_vision.detection.warp import Image, clip_targets, shift_colours, warp, warp_boxes

_MIXUP_BETA = 32.0
_SHARES = ("mosaic", "mixup", "fliplr", "flipud", "hsv_h", "hsv_s", "hsv_v", "scale", "translate")
_HELP = {
    "mosaic": "share of images that are put together of four",
    "mixup": "share of images that are mixed with another",
    "hsv_h": "most change of hue, share of the circle",
    "hsv_s": "most change of saturation, share",
    "hsv_v": "most change of value, share",
    "degrees": "largest rotation",
    "translate": "most movement, share of the side",
    "scale": "most change of size, share",
    "fliplr": "share of images that are mirrored, left for right",
    "flipud": "share of images that are mirrored, top for bottom",
}


@dataclass(frozen=True)
class BoxAugmentation:
    """The shares and ranges of `add_augmentation_arguments`."""

    mosaic: float = 1.0
    mixup: float = 0.0
    hsv_h: float = 0.015
    hsv_s: float = 0.7
    hsv_v: float = 0.4
    degrees: float = 0.0
    translate: float = 0.1
    scale: float = 0.5
    fliplr: float = 0.5
    flipud: float = 0.0

    def __post_init__(self) -> None:
        for name in _SHARES:
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "scale" and value == 1):
                expected = "from 0 to below 1" if name == "scale" else "from 0 to 1"
                raise InvalidArgumentError(f"bad {name}", where="BoxAugmentation", expected=expected, got=value)
        if not 0 <= self.degrees <= 180:
            raise InvalidArgumentError("bad degrees", where="BoxAugmentation", expected="0 to 180", got=self.degrees)

    def without_mosaic(self) -> BoxAugmentation:
        """For the last epochs of a run."""
        return replace(self, mosaic=0.0, mixup=0.0)

    def __call__(
        self,
        images: LabelledPixels,
        indices: npt.NDArray[np.int64],
        seed: int,
        step: int,
        *,
        rank: int = 0,
        fill: int = 114,
    ) -> tuple[Image, list[Array]]:
        """uint8 (N, H, W, 3) and for each image (n, 5): class, centre, width and height as shares of the image.

        rank: of several processes that train together. fill: sample of what lies outside the images.
        """
        chance = np.random.default_rng((seed, step, rank) if rank else (seed, step))
        height, width = images.size
        made, boxes = [], []
        for index in indices:
            pixels, targets = self._one(images, int(index), chance, fill)
            if chance.random() < self.mixup:
                other, more = self._one(images, int(chance.integers(len(images))), chance, fill)
                share = chance.beta(_MIXUP_BETA, _MIXUP_BETA)
                pixels = np.rint(pixels * share + other * (1 - share)).astype(np.uint8)
                targets = np.concatenate([targets, more])
            gains = chance.uniform(-1, 1, 3) * (self.hsv_h, self.hsv_s, self.hsv_v)
            if gains.any():
                pixels = shift_colours(pixels, gains + np.array([0, 1, 1]))
            pixels, targets = self._mirrored(pixels, targets, chance)
            made.append(pixels)
            shares = centres(targets[:, 1:]) / (width, height, width, height)
            boxes.append(np.concatenate([targets[:, :1], shares], 1))
        return np.stack(made), boxes

    def _one(self, images: LabelledPixels, index: int, chance: np.random.Generator, fill: int) -> tuple[Image, Array]:
        """One image of the model's size, and its targets (n, 5) in pixels."""
        size = images.size
        if chance.random() < self.mosaic:
            canvas, targets = _mosaic(images, index, chance, fill)
        else:
            canvas, targets = _framed(*images.content(index), size, fill)
        matrix = self._matrix(canvas.shape[:2], size, chance)
        plain = canvas.shape[:2] == size and np.array_equal(matrix, np.eye(2, 3))
        return (canvas, targets) if plain else (warp(canvas, matrix, size, fill), warp_boxes(targets, matrix, size))

    def _matrix(self, source: tuple[int, ...], size: tuple[int, int], chance: np.random.Generator) -> Array:
        """(2, 3): rotation and scale about the middle, which then moves."""
        angle = math.radians(chance.uniform(-self.degrees, self.degrees))
        scale = chance.uniform(1 - self.scale, 1 + self.scale)
        moves = chance.uniform(0.5 - self.translate, 0.5 + self.translate, 2)
        turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        if angle == 0:
            turn = scale * np.eye(2)
        middle = np.array([source[1] / 2, source[0] / 2])
        return np.concatenate([turn, (moves * (size[1], size[0]) - turn @ middle)[:, None]], 1)

    def _mirrored(self, pixels: Image, targets: Array, chance: np.random.Generator) -> tuple[Image, Array]:
        height, width = pixels.shape[:2]
        across, over = chance.random(2) < (self.fliplr, self.flipud)
        if across:
            pixels = pixels[:, ::-1]
            targets = np.concatenate([targets[:, :1], width - targets[:, [3]], targets[:, [2]],
                                      width - targets[:, [1]], targets[:, [4]]], 1)  # fmt: skip
        if over:
            pixels = pixels[::-1]
            targets = np.concatenate([targets[:, :2], height - targets[:, [4]], targets[:, [3]],
                                      height - targets[:, [2]]], 1)  # fmt: skip
        return pixels, targets


def add_augmentation_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag for each field of BoxAugmentation, as `--hsv-h`, and `--close-mosaic`."""
    group = parser.add_argument_group("augmentation")
    for one in fields(BoxAugmentation):
        flags = [f"--{one.name.replace('_', '-')}"] + ([f"--{one.name}"] if "_" in one.name else [])
        group.add_argument(*flags, type=float, default=one.default, help=f"{_HELP[one.name]} (default: {one.default})")
    group.add_argument(
        "--close-mosaic",
        "--close_mosaic",
        type=int,
        default=10,
        metavar="EPOCHS",
        help="epochs at the end, of a run of --steps or --epochs, without mosaic and mixup, at most half of it "
        "(default: 10)",
    )


def augmentation_from(args: argparse.Namespace) -> BoxAugmentation:
    """What the arguments of `add_augmentation_arguments` ask for."""
    return BoxAugmentation(**{one.name: getattr(args, one.name) for one in fields(BoxAugmentation)})


def _framed(pixels: Image, targets: Array, size: tuple[int, int], fill: int) -> tuple[Image, Array]:
    """The image in the middle of one of the given size, as the processor letterboxes it."""
    height, width = pixels.shape[:2]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    canvas = np.full((*size, 3), fill, np.uint8)
    canvas[top : top + height, left : left + width] = pixels
    return canvas, targets + np.array([0, left, top, left, top])


def _mosaic(images: LabelledPixels, index: int, chance: np.random.Generator, fill: int) -> tuple[Image, Array]:
    """Four images that meet in a point of a canvas of twice the size, cut off at its edges."""
    height, width = images.size
    canvas = np.full((2 * height, 2 * width, 3), fill, np.uint8)
    x, y = round(chance.uniform(0.5, 1.5) * width), round(chance.uniform(0.5, 1.5) * height)
    found = []
    for corner, one in enumerate([index, *chance.integers(0, len(images), 3).tolist()]):
        pixels, targets = images.content(one)
        h, w = pixels.shape[:2]
        left, top = x - w * (corner % 2 == 0), y - h * (corner < 2)
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, 2 * width), min(top + h, 2 * height)
        canvas[y1:y2, x1:x2] = pixels[y1 - top : y2 - top, x1 - left : x2 - left]
        found.append(targets + np.array([0, left, top, left, top]))
    return canvas, clip_targets(np.concatenate(found), (2 * height, 2 * width))

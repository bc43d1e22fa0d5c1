"""Augmented images and their boxes belong together, and depend on (seed, step) alone."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.detection.augmentation import BoxAugmentation
from mambasdk_vision.detection.boxes import centres, corners
from mambasdk_vision.detection.data import DetectionData, Labelled, LabelledImage
from mambasdk_vision.detection.pixels import LabelledPixels
from mambasdk_vision.detection.warp import clip_targets, shift_colours, warp, warp_boxes

ENTRY = {"kind": "image", "size": [64, 96], "resize": "letterbox", "interpolation": "bilinear"}
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
NOTHING: dict[str, Any] = dict.fromkeys(
    ("mosaic", "mixup", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "fliplr", "flipud"), 0.0
)


@pytest.fixture
def pixels(tmp_path: Path) -> LabelledPixels:
    """Twelve pictures of several sizes with one rectangle each, whose colour is its class; one without."""
    chance = np.random.default_rng(0)
    images = []
    for index in range(12):
        height, width = chance.integers(40, 160, 2).tolist()
        x1, y1 = int(chance.integers(0, width // 2)), int(chance.integers(0, height // 2))
        x2, y2 = int(chance.integers(x1 + width // 4, width)), int(chance.integers(y1 + height // 4, height))
        samples = np.zeros((height, width, 3), np.uint8)
        objects = []
        if index != 5:
            samples[y1:y2, x1:x2] = COLOURS[index % 3]
            box = centres([x1 / width, y1 / height, x2 / width, y2 / height])[0]
            objects.append(Labelled(index % 3, tuple(box.tolist())))
        path = tmp_path / f"{index}.png"
        Image.fromarray(samples).save(path)
        images.append(LabelledImage.of(path, (height, width), objects))
    return LabelledPixels(DetectionData(images, ["red", "green", "blue"]), ENTRY)


def coloured(image: Any, label: int) -> Any:
    """Where a picture has the colour of a class."""
    samples = image.astype(int)
    other = [channel for channel in range(3) if channel != label]
    return (samples[..., label] > 150) & (samples[..., other].max(-1) < 70)


def check(images: Any, boxes: list[Any], slack: float = 1.6) -> int:
    """Every coloured region lies in boxes of its class, and reaches the sides of one; how many boxes there are."""
    height, width = images.shape[1:3]
    for image, rows in zip(images, boxes, strict=True):
        assert ((rows[:, 1:] >= 0) & (rows[:, 1:] <= 1)).all()
        found = corners(rows[:, 1:]) * (width, height, width, height)
        for label in range(3):
            own = found[rows[:, 0] == label]
            mask = coloured(image, label)
            for x1, y1, x2, y2 in own:
                inside = mask[
                    max(int(y1 - slack), 0) : int(y2 + slack) + 1, max(int(x1 - slack), 0) : int(x2 + slack) + 1
                ]
                columns, lines = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
                assert columns.size
                assert abs((columns[-1] - columns[0] + 1) - (x2 - x1)) <= 2 * slack + 1
                assert abs((lines[-1] - lines[0] + 1) - (y2 - y1)) <= 2 * slack + 1
    return sum(map(len, boxes))


def test_without_changes_it_is_the_letterbox(pixels: LabelledPixels) -> None:
    every = np.arange(12)
    images, boxes = BoxAugmentation(**NOTHING)(pixels, every, 0, 0)
    np.testing.assert_array_equal(images, pixels.letterboxed(every))
    assert check(images, boxes) == 11
    assert boxes[5].shape == (0, 5)


CHANGES: list[dict[str, float]] = [
    {"fliplr": 1.0},
    {"flipud": 1.0},
    {"scale": 0.5},
    {"translate": 0.2},
    {"scale": 0.3, "translate": 0.1, "fliplr": 0.5, "flipud": 0.5},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_boxes_follow_their_objects(pixels: LabelledPixels, changes: dict[str, float]) -> None:
    augmentation = BoxAugmentation(**{**NOTHING, **changes})
    assert sum(check(*augmentation(pixels, np.arange(12), 1, step)) for step in range(6)) > 50


def test_rotated_boxes_go_around_their_objects(pixels: LabelledPixels) -> None:
    augmentation = BoxAugmentation(**{**NOTHING, "degrees": 20.0})
    plain = BoxAugmentation(**NOTHING)(pixels, np.arange(12), 1, 0)[1]
    for step in range(4):
        images, boxes = augmentation(pixels, np.arange(12), 1, step)
        for image, rows, before in zip(images, boxes, plain, strict=True):
            for label, *box in rows:
                x1, y1, x2, y2 = corners(box)[0] * (96, 64, 96, 64)
                mask = coloured(image, int(label))
                inside = mask[int(max(y1 - 2, 0)) : int(y2 + 3), int(max(x1 - 2, 0)) : int(x2 + 3)]
                assert inside.sum() == mask.sum() > 0
                assert inside.any(0).sum() >= (x2 - x1) * 0.5
            assert len(rows) <= len(before)


def test_mosaics_have_four_images(pixels: LabelledPixels) -> None:
    augmentation = BoxAugmentation(**{**NOTHING, "mosaic": 1.0})
    counts = []
    for step in range(20):
        images, boxes = augmentation(pixels, np.arange(12), 2, step)
        assert images.shape == (12, 64, 96, 3)
        for image, rows in zip(images, boxes, strict=True):
            found = corners(rows[:, 1:]) * (96, 64, 96, 64)
            for label in range(3):
                mask = coloured(image, label)
                covered = np.zeros_like(mask)
                for x1, y1, x2, y2 in found[rows[:, 0] == label]:
                    covered[int(max(y1 - 1, 0)) : int(y2 + 2), int(max(x1 - 1, 0)) : int(x2 + 2)] = True
                # What is not covered is the rest of an object of which less than a tenth is left.
                assert (mask & ~covered).sum() <= 0.1 * 64 * 96
        counts += [len(rows) for rows in boxes]
    assert 1.5 < np.mean(counts) < 4
    assert max(counts) >= 4


def test_mixup_adds_the_boxes_of_both(pixels: LabelledPixels) -> None:
    images, boxes = BoxAugmentation(**{**NOTHING, "mixup": 1.0})(pixels, np.arange(12), 3, 0)
    alone = BoxAugmentation(**NOTHING)(pixels, np.arange(12), 3, 0)[1]
    assert all(1 <= len(rows) <= 2 for rows in boxes)
    assert all(np.allclose(rows[: len(own)], own) for rows, own in zip(boxes, alone, strict=True))
    assert not np.array_equal(images, pixels.letterboxed(np.arange(12)))


def test_a_step_is_a_function_of_seed_and_step(pixels: LabelledPixels) -> None:
    augmentation, every = BoxAugmentation(mixup=0.3, degrees=5.0), np.arange(12)
    first, again = augmentation(pixels, every, 4, 7), augmentation(pixels, every, 4, 7)
    np.testing.assert_array_equal(first[0], again[0])
    assert all(np.array_equal(a, b) for a, b in zip(first[1], again[1], strict=True))
    for other in (augmentation(pixels, every, 4, 8), augmentation(pixels, every, 5, 7)):
        assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], augmentation(pixels, every, 4, 7, rank=1)[0])


def test_warp_is_bilinear_whichever_way_it_is_computed() -> None:
    chance = np.random.default_rng(0)
    image = chance.integers(0, 256, (23, 31, 3)).astype(np.uint8)
    np.testing.assert_array_equal(warp(image, np.eye(2, 3), (23, 31), 114), image)
    moved = warp(image, np.array([[1.0, 0, 4], [0, 1, -3]]), (23, 31), 114)
    np.testing.assert_array_equal(moved[:20, 4:], image[3:, :27])
    assert (moved[20:] == 114).all()
    assert (moved[:, :4] == 114).all()
    matrix = np.array([[0.8, 0, 3.2], [0, 1.3, -2.1]])
    nearly = matrix + np.array([[0, 1e-13, 0], [0, 0, 0]])
    apart = np.abs(warp(image, matrix, (20, 30), 114).astype(int) - warp(image, nearly, (20, 30), 114))
    assert apart.max() <= 1  # roundings of halves
    # A linear ramp stays one.
    ramp = np.repeat(np.arange(0, 200, 4, dtype=np.uint8)[None, :, None], 20, 0).repeat(3, 2)  # (20, 50, 3)
    turned = warp(ramp, np.array([[0.5, 0, 0], [0, 1, 0]]), (20, 25), 0)
    np.testing.assert_allclose(turned[5, 1:-1, 0], 8 * np.arange(1, 24) + 2, atol=1)


def test_boxes_that_lose_too_much_are_dropped() -> None:
    rows = np.array(
        [[0.0, 0, 0, 20, 20], [1, 90, 0, 110, 20], [2, 99.5, 0, 119, 20], [3, 0, 0, 100, 0.5], [4, 98.5, 0, 130, 9]]
    )
    assert clip_targets(rows, (50, 100))[:, 0].tolist() == [0, 1]
    shifted = warp_boxes(rows[:1], np.array([[1.0, 0, 5], [0, 2, 0]]), (50, 100))
    np.testing.assert_allclose(shifted, [[0, 5, 0, 25, 40]])


def test_colours_are_those_of_hsv() -> None:
    chance = np.random.default_rng(0)
    image = chance.integers(0, 256, (9, 11, 3)).astype(np.uint8)
    image[0] = image[0, :, :1]  # grey
    np.testing.assert_array_equal(shift_colours(image, np.array([0.0, 1.0, 1.0])), image)
    gains = (0.1, 0.7, 1.2)
    expected = []
    for sample in image.reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(*sample)
        expected.append(
            colorsys.hsv_to_rgb((hue + gains[0]) % 1, min(saturation * gains[1], 1), min(value * gains[2], 1))
        )
    made = shift_colours(image, np.array(gains)).reshape(-1, 3)
    np.testing.assert_allclose(made, np.array(expected) * 255, atol=1)


def test_bad_settings_are_named() -> None:
    with pytest.raises(InvalidArgumentError, match="bad mosaic: expected from 0 to 1, got 2"):
        BoxAugmentation(mosaic=2.0)
    with pytest.raises(InvalidArgumentError, match="bad scale: expected from 0 to below 1"):
        BoxAugmentation(scale=1.0)
    with pytest.raises(InvalidArgumentError, match="bad degrees"):
        BoxAugmentation(degrees=-1.0)
    assert BoxAugmentation().without_mosaic().mosaic == 0

"""Crops, heat maps and their decoding: the native code against its definition in NumPy and Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mambasdk_vision import PersonCrop, PoseEstimation
from mambasdk_vision.pose.targets import gaussian_heat_maps, heat_map_loss

Array = npt.NDArray[Any]


def bilinear(image: Array, x: Array, y: Array) -> Array:
    """Samples (…, 3) of an image (H, W, 3) at points in pixels; outside it is zero."""
    wide = np.pad(image.astype(np.float64), ((2, 2), (2, 2), (0, 0)))
    x, y = np.clip(x, -2, image.shape[1]) + 2, np.clip(y, -2, image.shape[0]) + 2
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    found = np.zeros((*x.shape, 3))
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (1 - abs(x - left - dx)) * (1 - abs(y - top - dy))
            column, row = np.minimum(left + dx, wide.shape[1] - 1), np.minimum(top + dy, wide.shape[0] - 1)
            found += weight[..., None] * wide[row, column]
    return found


def sampled(image: Array, affine: Array, size: tuple[int, int]) -> Array:
    v, u = np.mgrid[: size[0], : size[1]]
    a = affine.reshape(2, 3)
    return bilinear(image, a[0, 0] * u + a[0, 1] * v + a[0, 2], a[1, 0] * u + a[1, 1] * v + a[1, 2])


@pytest.mark.parametrize("size", [(64, 48), (33, 17), (1, 5)])
def test_crops_are_padded_boxes_of_one_aspect(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    boxes = np.array([[3, 4, 30, 33], [-8, 20, 12, 90.5], [45, 1, 50, 2]], np.float32)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    made = PersonCrop(size=list(size), mean=mean, std=std)(image, boxes)
    assert made["image"].shape == (3, 3, *size)
    for crop, affine, box in zip(made["image"], made["affines"], boxes.astype(np.float64), strict=True):
        x1, y1, x2, y2 = box
        scale = 1.25 * max((x2 - x1) / size[1], (y2 - y1) / size[0])
        expected = [scale, 0, (x1 + x2) / 2 - scale * size[1] / 2, 0, scale, (y1 + y2) / 2 - scale * size[0] / 2]
        np.testing.assert_allclose(affine, expected, rtol=1e-12)
        samples = (sampled(image, affine, size) / 255 - mean) / std
        np.testing.assert_allclose(crop, samples.transpose(2, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(made["boxes"], boxes)
    assert made["box_scores"].tolist() == [1, 1, 1]
    assert made["image_size"].tolist() == [37, 51]


def test_affines_in_place_of_boxes_turn_and_mirror() -> None:
    image = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    affines = np.array([[-1.0, 0, 39, 0, 1, 0], [0.8, -0.6, 5, 0.6, 0.8, -3]])
    made = PersonCrop(size=[30, 40])(image, affines=affines)
    np.testing.assert_allclose(made["image"][0] * 255, image[:, ::-1].transpose(2, 0, 1), atol=1e-3)
    expected = sampled(image, affines[1], (30, 40)).transpose(2, 0, 1)
    np.testing.assert_allclose(made["image"][1] * 255, expected, atol=1e-3)


def test_without_boxes_the_whole_image_is_the_person() -> None:
    image = np.random.default_rng(2).integers(0, 256, (20, 60, 3), dtype=np.uint8)
    crop = PersonCrop(size=[32, 24])
    whole, boxed = crop(image), crop(image, np.array([[0, 0, 60, 20]], np.float32))
    assert all(np.array_equal(whole[name], boxed[name]) for name in whole)
    nobody = crop(image, np.zeros((0, 4), np.float32))
    assert nobody["image"].shape == (0, 3, 32, 24)


def test_wrong_boxes_are_named() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    crop = PersonCrop(size=[4, 4], max_people=3)
    box = np.array([[0, 0, 4, 4]], np.float32)
    for boxes, message in (
        (np.array([[0, 0, 4, 4], [5, 5, 5, 9]], np.float32), "boxes: row 1: expected x1 < x2 and y1 < y2"),
        (np.array([[0, 0, np.nan, 4]], np.float32), "boxes: row 0: expected finite numbers"),
        (np.array([[-3e38, 0, 3e38, 4]], np.float32), "boxes: row 0: expected finite numbers of at most 1e7"),
        (np.zeros((2, 5), np.float32), r"boxes: expected f32 \(n, 4\), got \(2, 5\)"),
        (np.repeat(box, 4, 0), r"4 people, expected at most 3 \(max_people\)"),
        (box.astype(np.float64), "another element type"),
    ):
        with pytest.raises(ValueError, match=message):
            crop(image, boxes)
    with pytest.raises(ValueError, match=r"box_scores: expected f32 \(n\), one per box"):
        crop(image, box, box_scores=np.ones(2, np.float32))
    with pytest.raises(ValueError, match="boxes or affines, not both"):
        crop(image, box, affines=np.ones((1, 6)))
    with pytest.raises(ValueError, match="affines: row 0: expected finite"):
        crop(image, affines=np.full((1, 6), np.inf))
    with pytest.raises(ValueError, match=r"input image\.masks is unknown"):
        crop.run_named({"image": image, "image.masks": box})
    with pytest.raises(ValueError, match="size: expected an integer from 1"):
        PersonCrop(size=[0, 4])


# ---- heat maps ----


def decoded(maps: Array, partner: list[int], mirrored: Array | None = None) -> Array:
    """The definition: (n, K, 3) of maps (n, K, h, w), x and y in pixels of the map."""
    if mirrored is not None:
        back = mirrored[:, partner, :, ::-1].copy()
        back[..., 1:] = back[..., :-1].copy()
        maps = (maps + back) / 2
    people, keypoints, height, width = maps.shape
    found = np.zeros((people, keypoints, 3))
    for i, k in np.ndindex(people, keypoints):
        plane = maps[i, k]
        y, x = np.unravel_index(int(plane.argmax()), plane.shape)
        shift = np.zeros(2)
        if 0 < x < width - 1:
            shift[0] = 0.25 * np.sign(plane[y, x + 1] - plane[y, x - 1])
        if 0 < y < height - 1:
            shift[1] = 0.25 * np.sign(plane[y + 1, x] - plane[y - 1, x])
        found[i, k] = x + shift[0], y + shift[1], plane[y, x]
    return found


@pytest.mark.parametrize("size", [(64, 48), (9, 7), (1, 4), (3, 1), (1, 1)])
@pytest.mark.parametrize("flip", [False, True])
def test_decoding_equals_its_definition(size: tuple[int, int], flip: bool) -> None:
    chance = np.random.default_rng(size[0])
    maps, mirrored = (chance.normal(size=(3, 5, *size)).astype(np.float32) for _ in range(2))
    pairs = [[1, 2], [3, 4]]
    expected = decoded(maps, [0, 2, 1, 4, 3], mirrored if flip else None)
    affines = chance.normal(size=(3, 6))
    crops = {
        "affines": affines,
        "boxes": np.ones((3, 4), np.float32),
        "box_scores": np.array([1, 0.5, 0], np.float32),
    }
    head = PoseEstimation(flip_pairs=pairs, stride=4, keypoint_threshold=0.2, skeleton=[[0, 1]], names=list("abcde"))
    found = head(maps, flipped=mirrored if flip else None, crops=crops)
    a = affines.reshape(3, 2, 3)
    points = np.einsum("nij,nkj->nki", a[:, :, :2], 4 * expected[..., :2]) + a[:, None, :, 2]
    np.testing.assert_allclose(found["keypoints"][..., :2], points, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["keypoints"][..., 2], expected[..., 2], rtol=1e-6)
    strong = np.where(expected[..., 2] > 0.2, expected[..., 2], np.nan)
    means = np.nan_to_num(np.array([np.nanmean(row) if np.isfinite(row).any() else 0.0 for row in strong]))
    np.testing.assert_allclose(found["scores"], means * crops["box_scores"], rtol=1e-5)
    assert found["json"]["names"] == list("abcde")
    assert found["json"]["skeleton"] == [[0, 1]]
    said = np.array([person["keypoints"] for person in found["json"]["people"]], np.float32)
    np.testing.assert_array_equal(said, found["keypoints"])


@pytest.mark.parametrize(("size", "sigma"), [((64, 48), 2.0), ((96, 72), 3.0), ((16, 12), 1.0)])
def test_a_keypoint_comes_back_from_its_heat_map(size: tuple[int, int], sigma: float) -> None:
    """Within 0.3 pixels of the map along each axis, anywhere but at the outermost pixels."""
    chance = np.random.default_rng(0)
    points = chance.uniform(0.8, np.array([size[1], size[0]]) - 1.8, (40, 17, 2))
    maps, weights = gaussian_heat_maps(torch.from_numpy(points), torch.ones(40, 17), size, sigma)
    assert weights.all()
    found = PoseEstimation(stride=1)(maps.float().numpy())["keypoints"]
    assert np.abs(found[..., :2] - points).max() < 0.3
    assert found[..., 2].min() > 0.7


def test_weights_leave_out_what_is_not_annotated_or_outside() -> None:
    points = torch.tensor([[[3.0, 3.0], [3.0, 3.0], [-7.0, 3.0], [3.0, 13.9], [3.0, 14.1]]])
    visible = torch.tensor([[2, 0, 2, 1, 1]])
    maps, weights = gaussian_heat_maps(points, visible, (9, 8), 2.0)
    assert weights.tolist() == [[1, 0, 0, 1, 0]]
    assert float(maps[0, 0, 3, 3]) == 1
    torch.testing.assert_close(maps[0, 0, 5, 3], torch.tensor(np.exp(-0.5), dtype=torch.float32))
    error = heat_map_loss(torch.zeros_like(maps), maps, weights)
    torch.testing.assert_close(error, (maps[0, [0, 3]] ** 2).sum() / maps.numel())


def test_maps_that_are_no_numbers_and_wrong_shapes() -> None:
    head = PoseEstimation(names=["a", "b"], flip_pairs=[[0, 1]])
    maps = np.full((1, 2, 4, 4), np.nan, np.float32)
    maps[0, 1, 2, 3] = 5
    maps[0, 1, 0, 0] = np.inf
    found = head(maps)
    assert found["keypoints"][0].tolist() == [[0, 0, 0], [12, 8, 5]]
    assert head(np.zeros((0, 2, 4, 4), np.float32))["json"]["people"] == []
    assert head(np.zeros((1, 2, 0, 4), np.float32))["keypoints"].tolist() == [[[0, 0, 0]] * 2]
    with pytest.raises(ValueError, match="2 names for 3 keypoints"):
        head(np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"heatmaps: expected f32 \(n, K, h, w\), got \(2, 4, 4\)"):
        head(np.zeros((2, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"heatmaps_flipped: expected \(1, 2, 4, 4\), got \(1, 2, 4, 3\)"):
        head(maps, flipped=maps[..., :3].copy())
    with pytest.raises(ValueError, match=r"affines: expected \(1, 6\), got \(2, 6\)"):
        head.run(heatmaps=maps, affines=np.zeros((2, 6)))
    with pytest.raises(ValueError, match=r"skeleton: the pair \(0, 7\) is of no two of 2 keypoints"):
        PoseEstimation(skeleton=[[0, 7]])(maps)
    for pairs in ([[0]], [[0, -1]], [0, 1], "ab", [[0, 1.5]]):
        with pytest.raises(ValueError, match="flip_pairs: expected"):
            PoseEstimation(flip_pairs=pairs)

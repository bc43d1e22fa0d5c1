"""Resampling, intensities and tiles of the native code: equal to SciPy and to nnU-Net's golden values."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage as ndi
from safetensors.numpy import load_file

from mambasdk import runtime
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.testing import golden
from mambasdk_medical import volumes

Array = npt.NDArray[Any]
SYSTEM = "nnunet-runtime"

SHAPES = [
    ((9, 14, 17), (13, 21, 25)),
    ((9, 14, 17), (5, 7, 11)),
    ((16, 33, 20), (16, 50, 10)),
    ((1, 40, 31), (1, 20, 47)),
    ((2, 3, 5), (31, 3, 64)),
    ((1, 1, 1), (3, 4, 5)),
    ((24, 5, 4), (1, 2, 1)),
    ((7, 1, 19), (7, 1, 18)),
]


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def zoomed(volume: Array, shape: tuple[int, ...], order: int) -> Array:
    """SciPy's, in float64."""
    factors = [m / n for n, m in zip(volume.shape[1:], shape, strict=True)]
    channels = volume.astype(np.float64)
    return np.stack([ndi.zoom(one, factors, order=order, mode="nearest", grid_mode=True) for one in channels])


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("shape", "new"), SHAPES)
def test_resampling_is_scipys(shape: tuple[int, ...], new: tuple[int, ...], order: int) -> None:
    volume = noise(2, *shape) * 3 + 1
    found = volumes.resample(volume, new, order, clip=False)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, zoomed(volume, new, order), atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_resampling_of_drawn_shapes_is_scipys(seed: int) -> None:
    chance = np.random.default_rng(seed)
    shape = tuple(int(n) for n in chance.integers(1, 40, 3))
    new = tuple(int(n) for n in chance.integers(1, 60, 3))
    volume = noise(1, *shape, seed=seed)
    np.testing.assert_allclose(volumes.resample(volume, new, clip=False), zoomed(volume, new, 3), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_apart_has_its_own_order(axis: int) -> None:
    volume, new = noise(1, 6, 9, 12), (11, 13, 8)
    first, second = list(volume.shape[1:]), list(new)
    first[axis], second[axis] = new[axis], new[axis]
    along = volumes.resample(volume, first, 0)
    expected = zoomed(zoomed(volume, tuple(first), 0), new, 3)
    np.testing.assert_allclose(volumes.resample(volume, new, 3, 0, axis, clip=False), expected, atol=1e-5)
    assert np.isin(along, volume).all()


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_a_cubic_stays_in_the_range_of_what_it_came_from(axis: int | None) -> None:
    volume, new = noise(2, 6, 9, 12), (11, 13, 20)
    expected = zoomed(volume, new, 3)
    over = (1, 2, 3)
    if axis is not None:  # planes across the axis have a range each; then the axis, to the nearest plane
        size = list(new)
        size[axis] = volume.shape[axis + 1]
        expected, over = zoomed(volume, tuple(size), 3), tuple(a for a in over if a != axis + 1)
    expected = expected.clip(volume.min(over, keepdims=True), volume.max(over, keepdims=True))
    expected = zoomed(expected, new, 0)
    np.testing.assert_allclose(volumes.resample(volume, new, 3, 0, axis), expected, atol=1e-5)
    assert not np.allclose(volumes.resample(volume, new, 3, 0, axis, clip=False), expected, atol=1e-3)


def test_images_are_resampled_too() -> None:
    image = noise(3, 20, 31)
    np.testing.assert_allclose(volumes.resample(image, (33, 17), clip=False), zoomed(image, (33, 17), 3), atol=1e-5)


def test_results_do_not_depend_on_threads() -> None:
    volume = noise(2, 31, 45, 38)
    before = len(os.sched_getaffinity(0))
    try:
        found = []
        for threads in (1, 2, 5):
            runtime.set_num_threads(threads)
            found.append((volumes.resample(volume, (40, 30, 57)), volumes.normalise(volume[0], "zscore")))
    finally:
        runtime.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert np.array_equal(a, b)


def test_resampling_keeps_polynomials() -> None:
    """Away from the edges a cubic spline is exact for a straight line."""
    line = np.broadcast_to(np.arange(60, dtype=np.float32), (1, 2, 2, 60))
    made = volumes.resample(np.ascontiguousarray(line), (2, 2, 90))[0, 0, 0]
    places = (np.arange(90) + 0.5) * 60 / 90 - 0.5
    np.testing.assert_allclose(made[30:60], places[30:60], atol=1e-5)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"order: expected 0 \(nearest\), 1 \(linear\) or 3 \(cubic\), got 2"):
        volumes.resample(noise(1, 2, 2, 2), (3, 3, 3), 2)
    with pytest.raises(ShapeError, match="3 extents of 1 or more"):
        volumes.resample(noise(1, 2, 2, 2), (3, 0, 3))
    with pytest.raises(ShapeError, match="bad volume"):
        volumes.resample(noise(2, 2), (3, 3))
    with pytest.raises(InvalidArgumentError, match="bad scheme"):
        volumes.normalise(noise(2, 2, 2), "mri")
    with pytest.raises(ValueError, match="tile_starts: expected 1 <= tile <= size"):
        volumes.tile_starts(10, 20)


def test_tile_starts_are_the_goldens() -> None:
    for case in golden.config(golden.folder_or_skip(SYSTEM))["sliding_window"]:
        for size, tile, starts in zip(case["image"], case["tile"], case["starts"], strict=True):
            assert volumes.tile_starts(size, tile, case["step"]) == starts


def test_gaussian_maps_are_the_goldens() -> None:
    folder = golden.folder_or_skip(SYSTEM)
    tensors = load_file(folder / "io.safetensors")
    tile, sigma = (golden.config(folder)["gauss"][name] for name in ("tile", "sigma_scale"))
    assert np.array_equal(volumes.gaussian_map(tile, sigma), tensors["gauss.3d"])
    assert np.array_equal(volumes.gaussian_map(tile[1:], sigma), tensors["gauss.2d"])


@pytest.mark.parametrize("tile", [(7, 9, 40), (33, 1, 5), (64, 96)])
def test_gaussian_maps_are_scipys(tile: tuple[int, ...]) -> None:
    delta = np.zeros(tile)
    delta[tuple(n // 2 for n in tile)] = 1
    expected = ndi.gaussian_filter(delta, [n / 8 for n in tile], mode="constant")
    expected = (expected / expected.max()).astype(np.float32)
    expected[expected == 0] = expected[expected > 0].min()
    np.testing.assert_allclose(volumes.gaussian_map(tile), expected, rtol=3e-7)


def test_intensities() -> None:
    channel = noise(5, 8, 9) * 40 + 10
    wide = channel.astype(np.float64)
    np.testing.assert_allclose(
        volumes.normalise(channel, "ct", mean=12.5, std=31.0, lower=-20, upper=55),
        (np.clip(wide, -20, 55) - 12.5) / 31.0,
        rtol=1e-6,
    )
    np.testing.assert_allclose(volumes.normalise(channel, "zscore"), (wide - wide.mean()) / wide.std(), atol=1e-6)
    mask = noise(5, 8, 9, seed=1) > 0
    inside = wide[mask]
    masked = np.where(mask, (wide - inside.mean()) / inside.std(), wide)
    np.testing.assert_allclose(volumes.normalise(channel, "zscore_masked", mask=mask), masked, rtol=1e-5, atol=1e-6)
    spread = (wide - wide.min()) / (wide.max() - wide.min())
    np.testing.assert_allclose(volumes.normalise(channel, "rescale"), spread, atol=1e-6)
    np.testing.assert_allclose(volumes.normalise(channel, "rgb"), wide / 255, rtol=1e-6)
    assert np.array_equal(volumes.normalise(channel, "none"), channel)
    assert np.array_equal(volumes.normalise(np.full((4, 4), 7.0), "zscore"), np.zeros((4, 4)))
    empty = np.zeros((5, 8, 9), bool)
    assert np.array_equal(volumes.normalise(channel, "zscore_masked", mask=empty), channel)


@pytest.mark.parametrize("seed", range(4))
def test_holes_are_filled_as_scipy_does(seed: int) -> None:
    solid = ndi.gaussian_filter(np.random.default_rng(seed).normal(size=(12, 20, 17)), 1.5)
    volume = np.zeros((2, 12, 20, 17), np.float32)
    volume[0][solid > 0.02] = 1
    volume[1][3:5, 6:9, 2:4] = -1
    raw = (volume != 0).any(0)
    assert np.array_equal(volumes.nonzero_mask(volume), ndi.binary_fill_holes(raw))
    where = np.nonzero(raw)
    assert volumes.nonzero_box(raw) == tuple((int(w.min()), int(w.max()) + 1) for w in where)


def test_an_empty_volume_is_its_own_box() -> None:
    mask = volumes.nonzero_mask(np.zeros((1, 4, 5, 6), np.float32))
    assert not mask.any()
    assert volumes.nonzero_box(mask) == ((0, 4), (0, 5), (0, 6))


def test_grids_by_nnunets_rules() -> None:
    assert volumes.new_shape((20, 100, 90), (5.0, 0.7, 0.7), (2.5, 1.0, 1.0)) == (40, 70, 63)
    assert volumes.new_shape((5, 10, 10), (1.0, 1.0, 1.0), (2.0, 1.0, 30.0)) == (2, 10, 1)  # 2.5 to even; never 0
    assert volumes.new_shape((10, 10), (1.0, 2.0), (1.0, 1.0)) == (10, 20)
    assert volumes.separate_axis((5.0, 0.7, 0.7), (2.5, 1.0, 1.0)) == 0
    assert volumes.separate_axis((1.0, 1.0, 1.0), (1.0, 5.0, 1.0)) == 1
    assert volumes.separate_axis((1.0, 1.0, 1.0), (2.0, 1.0, 1.0)) is None
    assert volumes.separate_axis((4.0, 4.0, 1.0), (1.0, 1.0, 1.0)) is None
    assert volumes.separate_axis((1.0, 1.0, 2.0), (1.0, 1.0, 1.0), 1.5) == 2
    with pytest.raises(ValueError, match="expected positive spacings"):
        volumes.new_shape((5, 5, 5), (1.0, 0.0, 1.0), (1.0, 1.0, 1.0))

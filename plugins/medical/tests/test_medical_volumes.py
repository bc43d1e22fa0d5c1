"""The numeric kernels of volumes, against the authors' recorded values, SciPy, and plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy import ndimage

from mambasdk.errors import InvalidArgumentError
from mambasdk.testing import golden
from mambasdk_medical import volumes

GOLDEN = "nnunet-runtime"


@pytest.mark.golden
def test_tile_starts_are_the_recorded_ones() -> None:
    for case in golden.config(golden.folder_or_skip(GOLDEN))["sliding_window"]:
        sizes = zip(case["image"], case["tile"], strict=True)
        assert [volumes.tile_starts(size, tile, case["step"]) for size, tile in sizes] == case["starts"]


@pytest.mark.golden
def test_gaussian_maps_are_the_recorded_ones() -> None:
    tensors = load_file(golden.folder_or_skip(GOLDEN) / "io.safetensors")
    for name in ("gauss.2d", "gauss.3d"):
        np.testing.assert_allclose(volumes.gaussian_map(tensors[name].shape), tensors[name], rtol=1e-5, atol=0)


@pytest.mark.parametrize(("size", "tile", "step"), [(100, 32, 0.5), (33, 32, 0.5), (32, 32, 1.0), (97, 16, 0.25)])
def test_tiles_cover_an_axis_with_steps_of_at_most_their_share(size: int, tile: int, step: float) -> None:
    starts = volumes.tile_starts(size, tile, step)
    assert starts[0] == 0
    assert starts[-1] == size - tile
    assert max(np.diff(starts), default=0) <= np.ceil(tile * step)


def test_tiles_refuse_smaller_images_and_bad_steps() -> None:
    with pytest.raises(InvalidArgumentError):
        volumes.tile_starts(8, 16)
    with pytest.raises(InvalidArgumentError):
        volumes.tile_starts(32, 16, 0.0)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shape", [(9, 11, 13), (12, 20, 7), (5, 30, 13), (1, 1, 1)])
def test_resampling_is_that_of_scipy_within_the_range_of_the_source(order: int, shape: tuple[int, ...]) -> None:
    volume = np.random.default_rng(0).normal(size=(2, 9, 11, 13)).astype(np.float32)
    found = volumes.resample(volume, shape, order)
    factors = [new / old for new, old in zip(shape, volume.shape[1:], strict=True)]
    for made, source in zip(found, volume.astype(np.float64), strict=True):
        if shape == volume.shape[1:]:
            wanted = source
        else:
            wanted = ndimage.zoom(source, factors, order=order, mode="nearest", grid_mode=True)
        if order == 3:
            wanted = wanted.clip(source.min(), source.max())
        np.testing.assert_allclose(made, wanted, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_separate_axis_takes_the_nearest_slice(axis: int) -> None:
    volume = np.random.default_rng(0).normal(size=(1, 6, 7, 8)).astype(np.float32)
    shape = [6, 7, 8]
    shape[axis] = 11
    found = volumes.resample(volume, shape, 3, 0, axis)
    nearest = [int((index + 0.5) * volume.shape[axis + 1] / 11) for index in range(11)]
    np.testing.assert_allclose(found, np.take(volume, nearest, axis + 1), atol=1e-5)


def test_the_coarsest_axis_is_separate_where_it_is_alone() -> None:
    assert volumes.separate_axis((5, 1, 1), (1, 1, 1)) == 0
    assert volumes.separate_axis((1, 1, 1), (1, 1, 4)) == 2
    assert volumes.separate_axis((3, 1, 1), (3, 1, 1)) is None
    assert volumes.separate_axis((5, 5, 1), (1, 1, 1)) is None


def test_shapes_follow_from_spacings() -> None:
    assert volumes.new_shape((10, 20, 5), (3.0, 1.0, 1.0), (1.0, 1.5, 2.0)) == (30, 13, 2)  # 2.5 is rounded to even
    assert volumes.new_shape((1, 1, 1), (1.0, 1.0, 1.0), (9.0, 9.0, 9.0)) == (1, 1, 1)


def test_holes_are_part_of_the_mask_and_an_empty_image_is_whole() -> None:
    volume = np.zeros((1, 7, 8, 9), np.float32)
    volume[0, 1:6, 2:7, 3:8] = 1
    volume[0, 3, 4, 5] = 0
    mask = volumes.nonzero_mask(volume)
    assert mask[3, 4, 5]
    assert volumes.nonzero_box(mask) == ((1, 6), (2, 7), (3, 8))
    assert volumes.nonzero_box(volumes.nonzero_mask(volume * 0)) == ((0, 7), (0, 8), (0, 9))


def test_normalisation_schemes() -> None:
    chance = np.random.default_rng(0)
    channel = chance.normal(50, 20, (6, 7, 8)).astype(np.float32)
    mask = chance.random(channel.shape) < 0.5
    whole: Any = channel.astype(np.float64)

    def close(found: Any, wanted: Any) -> None:
        np.testing.assert_allclose(found, wanted, atol=1e-5)

    close(volumes.normalise(channel, "ct", mean=45, std=9, lower=20, upper=70), (whole.clip(20, 70) - 45) / 9)
    close(volumes.normalise(channel, "zscore"), (whole - whole.mean()) / whole.std())
    masked = volumes.normalise(channel, "zscore_masked", mask=mask)
    close(masked[mask], (whole[mask] - whole[mask].mean()) / whole[mask].std())
    close(masked[~mask], whole[~mask])
    close(volumes.normalise(channel, "rescale"), (whole - whole.min()) / np.ptp(whole))
    close(volumes.normalise(channel, "rgb"), whole / 255)
    close(volumes.normalise(channel, "none"), whole)
    # Nothing to divide by.
    assert np.isfinite(volumes.normalise(np.full((3, 3), 7, np.float32), "zscore")).all()
    with pytest.raises(InvalidArgumentError, match="bad scheme"):
        volumes.normalise(channel, "histogram")

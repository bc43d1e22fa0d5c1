"""Prediction: tiles give what the whole image gives, mirrors are turned back, results lie on the file's grid."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical import volumes
from mambasdk_medical.data import Geometry, Labels
from mambasdk_medical.inference.predictor import Predictor
from mambasdk_medical.inference.sliding_window import mirrored, pad, predict
from mambasdk_medical.preprocessing.preparation import Preparation

WEIGHTS = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)


def pointwise(tiles: Any) -> Any:
    """A 1 x 1 convolution: two channels to three."""
    return np.einsum("kc,bc...->bk...", WEIGHTS, tiles)


def _image(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)


@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize(
    ("shape", "patch"), [((17, 22), (8, 8)), ((9, 17, 12), (4, 8, 8)), ((5, 6, 7), (8, 8, 8)), ((6, 17, 9), (8, 8))]
)
def test_tiles_of_a_pointwise_model_are_the_whole_image(shape: Any, patch: Any, gaussian: bool) -> None:
    image = _image(shape)
    axes = tuple(range(len(patch)))
    found = predict(pointwise, image, patch, mirror_axes=axes, gaussian=gaussian)
    np.testing.assert_allclose(found, pointwise(image[None])[0], atol=2e-6)


def test_logits_are_the_weighted_mean_of_their_tiles() -> None:
    """Against a loop in float64, for a model that knows where in the tile it is."""
    where = np.random.default_rng(2).normal(size=(1, 1, 6, 8))

    def located(tiles: Any) -> Any:
        return (tiles[:, :1] * where).astype(np.float32)

    image = _image((13, 19))
    weights = volumes.gaussian_map((6, 8)).astype(np.float64)
    total, seen = np.zeros((13, 19)), np.zeros((13, 19))
    for i, j in product(volumes.tile_starts(13, 6), volumes.tile_starts(19, 8)):
        total[i : i + 6, j : j + 8] += weights * where[0, 0] * image[0, i : i + 6, j : j + 8]
        seen[i : i + 6, j : j + 8] += weights
    np.testing.assert_allclose(predict(located, image, (6, 8))[0], total / seen, atol=1e-5)


def test_mirroring_averages_over_every_set_of_axes() -> None:
    ramp = np.arange(6.0, dtype=np.float32)
    seen = []

    def located(tiles: Any) -> Any:
        seen.append(tiles.copy())
        return np.broadcast_to(ramp, tiles.shape)

    tile = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    found = mirrored(located, tile, (0, 1, 2))
    assert len({one.tobytes() for one in seen}) == 8
    np.testing.assert_allclose(found, 2.5)
    np.testing.assert_array_equal(mirrored(located, tile, ())[0], np.broadcast_to(ramp, (4, 5, 6)))


def test_small_images_are_padded_on_both_sides() -> None:
    image = _image((3, 9))
    padded, inside = pad(image, (8, 8))
    assert padded.shape == (2, 8, 9)
    np.testing.assert_array_equal(padded[inside], image)
    np.testing.assert_array_equal(padded[:, 2:5], image)
    with pytest.raises(InvalidArgumentError, match="other axes"):
        predict(pointwise, _image((5, 5, 5, 5)), (8, 8))


def _predictor(labels: Labels, **settings: Any) -> Predictor:
    defaults: dict[str, Any] = {
        "runs": [lambda tiles: np.concatenate([5 - tiles, tiles - 5], 1)],
        "preparation": Preparation(["none"], (2.0, 1.0, 1.0)),
        "labels": labels,
        "patch": (4, 8, 8),
        "channels": ("MR",),
        "file_ending": ".nii.gz",
    }
    return Predictor(**{**defaults, **settings})


TWO = Labels.parse({"background": 0, "bright": 1})


def _bright(shape: tuple[int, int, int]) -> Any:
    image = np.zeros((1, *shape), np.float32)
    image[0, 2:-2, 3:-3, 2:-2] = 1
    image[0, 3:-3, 5:-5, 5:-5] = 9
    return image


def test_label_maps_have_the_shape_of_the_file() -> None:
    image = _bright((10, 20, 22))
    same = _predictor(TWO)(image, Geometry((2.0, 1.0, 1.0), (10, 20, 22)), probabilities=True)
    np.testing.assert_array_equal(same.labels, image[0] > 5)
    assert same.labels.dtype == np.uint8
    assert same.probabilities is not None
    np.testing.assert_allclose(same.probabilities.sum(0), 1, atol=1e-6)
    assert (same.probabilities[0][image[0] == 0] > 0.99).all()
    finer = _predictor(TWO)(image, Geometry((2.0, 0.5, 0.5), (10, 20, 22)))
    assert finer.labels.shape == (10, 20, 22)
    overlap = 2 * ((finer.labels == 1) & (image[0] > 5)).sum() / ((finer.labels == 1).sum() + (image[0] > 5).sum())
    assert overlap > 0.8


def test_regions_are_decided_one_by_one() -> None:
    labels = Labels.parse({"background": 0, "whole": [1, 2], "core": [2]}, [1, 2])
    run = lambda tiles: np.concatenate([tiles - 0.5, tiles - 5], 1)  # noqa: E731
    image = _bright((10, 20, 22))
    made = _predictor(labels, runs=[run])(image, Geometry((2.0, 1.0, 1.0), (10, 20, 22)), probabilities=True)
    np.testing.assert_array_equal(made.labels, (image[0] > 0.5).astype(int) + (image[0] > 5))
    assert made.probabilities is not None
    assert not made.probabilities[:, image[0] == 0].any()


def test_several_packages_are_averaged() -> None:
    image = _image((5, 9, 9))[:1]
    runs = [lambda tiles: np.concatenate([tiles, -tiles], 1), lambda tiles: np.concatenate([3 * tiles, tiles], 1)]
    found = _predictor(TWO, runs=runs).logits(image)
    np.testing.assert_allclose(found, np.concatenate([2 * image, 0 * image]), atol=1e-5)


def test_networks_of_slices_predict_volumes() -> None:
    image = _bright((6, 20, 22))
    preparation = Preparation(["none"], (1.0, 1.0))
    made = _predictor(TWO, preparation=preparation, patch=(8, 8))(image, Geometry((7.0, 1.0, 1.0), (6, 20, 22)))
    np.testing.assert_array_equal(made.labels, image[0] > 5)


def test_a_package_of_something_else_is_refused(tmp_path: Path) -> None:
    from mambasdk import create_model, save_package

    save_package(create_model("mamba", d_model=8, n_layer=1, vocab_size=16), tmp_path / "package")
    with pytest.raises(InvalidArgumentError, match="no package of a medical segmenter"):
        Predictor.open([tmp_path / "package"])

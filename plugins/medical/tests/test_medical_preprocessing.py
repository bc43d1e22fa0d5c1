"""Preparation: what is transposed, cropped and resampled comes back where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from medical_cases import write_dataset

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical import volumes
from mambasdk_medical.data import Geometry, Labels
from mambasdk_medical.data.workspace import Workspace
from mambasdk_medical.preprocessing.preparation import Preparation
from mambasdk_medical.preprocessing.store import foreground_locations, open_case, read_index

LABELS = Labels.parse({"background": 0, "a": 1, "b": 2})


def _image(shape: tuple[int, int, int], margin: int = 2) -> np.ndarray:
    volume = np.zeros((1, *shape), np.float32)
    inner = tuple(slice(margin, extent - margin) for extent in shape)
    volume[(0, *inner)] = np.random.default_rng(0).uniform(1, 9, volume[(0, *inner)].shape)
    return volume


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_without_resampling_everything_comes_back_exactly(transpose: tuple[int, int, int]) -> None:
    image = _image((9, 11, 13))
    spacing = (4.0, 1.0, 2.0)
    preparation = Preparation(["none"], [spacing[axis] for axis in transpose], transpose=transpose)
    labels = (image[0] > 4).astype(np.int16)
    made = preparation(image, Geometry(spacing, (9, 11, 13)), labels)
    assert made.image.shape[1:] == tuple((5, 7, 9)[axis] for axis in transpose)
    np.testing.assert_array_equal(preparation.place(made.image[0], made), image[0])
    assert made.labels is not None
    np.testing.assert_array_equal(preparation.place(made.labels, made), labels)
    np.testing.assert_array_equal(preparation.logits_back(made.image, made), made.image)
    np.testing.assert_array_equal(preparation.place(made.image, made), image)


def test_resampling_goes_to_the_spacing_and_back() -> None:
    image = _image((8, 20, 22), margin=0)
    preparation = Preparation(["zscore"], (2.0, 1.5, 1.5))
    made = preparation(image, Geometry((4.0, 1.0, 1.0), (8, 20, 22)))
    assert made.image.shape == (1, 16, 13, 15)
    # Along the coarse axis slices are repeated.
    np.testing.assert_array_equal(made.image[:, ::2], made.image[:, 1::2])
    assert preparation.logits_back(made.image, made).shape == image.shape


def test_a_network_of_slices_keeps_them_apart() -> None:
    image = _image((5, 16, 16), margin=0)
    preparation = Preparation(["none"], (2.0, 2.0))
    made = preparation(image, Geometry((1.0, 1.0, 1.0), (5, 16, 16)))
    assert made.image.shape == (1, 5, 8, 8)
    for index in range(5):
        one = preparation(image[:, index : index + 1], Geometry((1.0, 1.0, 1.0), (1, 16, 16)))
        np.testing.assert_allclose(made.image[:, index], one.image[:, 0], atol=1e-6)


def test_labels_are_resampled_one_by_one() -> None:
    labels = np.zeros((4, 12, 12), np.int16)
    labels[:, 2:7, 3:9], labels[1:3, 8:11, 2:10] = 1, 2
    preparation = Preparation(["none"], (1.0, 0.5, 0.5))
    made = preparation(np.ones((1, 4, 12, 12), np.float32), Geometry((1.0, 1.0, 1.0), (4, 12, 12)), labels)
    assert made.labels is not None
    assert made.labels.shape == (4, 24, 24)
    for value in (1, 2):
        share = volumes.resample((labels == value).astype(np.float32)[None], (4, 24, 24), 1)[0]
        assert (made.labels[share > 0.5] == value).all()
        assert (made.labels[share < 0.5] != value).all()


def test_the_entry_of_a_package_says_the_same_preparation() -> None:
    preparation = Preparation(
        ["ct", "zscore"], [2.0, 1.0, 1.0], [1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [9.0, 9.0], [1, 0, 2]
    )
    assert Preparation.from_entry(preparation.to_entry(), "package") == preparation
    with pytest.raises(InvalidArgumentError, match="does not say how images are prepared"):
        Preparation.from_entry({"kind": "image"}, "package")
    with pytest.raises(InvalidArgumentError, match="number of channels"):
        preparation(_image((4, 4, 4)), Geometry((1.0, 1.0, 1.0), (4, 4, 4)))


def test_an_empty_image_and_an_empty_mask_are_prepared(tmp_path: Path) -> None:
    preparation = Preparation(["zscore_masked"], (1.0, 1.0, 1.0))
    made = preparation(
        np.zeros((1, 4, 5, 6), np.float32), Geometry((1.0, 1.0, 1.0), (4, 5, 6)), np.zeros((4, 5, 6), np.int16)
    )
    assert made.image.shape == (1, 4, 5, 6)
    assert np.isfinite(made.image).all()
    assert made.labels is not None
    assert foreground_locations(made.labels, LABELS) == {}
    root = write_dataset(tmp_path / "D", cases=2, change=lambda labels: labels * 0)
    workspace = Workspace.of(str(root))
    cases = workspace.preprocess(workspace.make_plans(memory=1).configuration("2d"))
    assert [case["voxels"] for case in cases] == [{}, {}]


def test_stored_cases_are_read_back_and_their_locations_are_of_their_classes(tmp_path: Path) -> None:
    workspace = Workspace.of(str(write_dataset(tmp_path / "D", cases=2)))
    configuration = workspace.make_plans(memory=1).configuration("3d_fullres")
    with pytest.raises(InvalidArgumentError, match="nothing is preprocessed"):
        read_index(workspace.prepared(configuration), configuration)
    workspace.preprocess(configuration)
    folder = workspace.prepared(configuration)
    assert [case["name"] for case in read_index(folder, configuration)] == ["case0", "case1"]
    case = open_case(folder, "case1")
    assert case.image.shape[1:] == case.labels.shape
    for name, value in (("ball", 1), ("box", 2)):
        assert (case.labels[tuple(case.locations[name].T)] == value).all()
        assert len(case.locations[name]) == (case.labels == value).sum()
    other = workspace.plans().content
    changed = {**other["configurations"]["3d_fullres"], "spacing": [9.0, 1.0, 1.0]}
    from mambasdk_medical.plans import Plans

    with pytest.raises(InvalidArgumentError, match="another plan"):
        read_index(folder, Plans({**other, "configurations": {"3d_fullres": changed}}).configuration("3d_fullres"))


def test_regions_and_annotated_voxels_have_locations() -> None:
    known = Labels.parse({"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}, [1, 2])
    labels = np.array([[0, 1, 2], [3, 3, 1]], np.int16)
    found = foreground_locations(labels, known)
    assert {name: places.tolist() for name, places in found.items()} == {
        "whole": [[0, 1], [0, 2], [1, 2]],
        "core": [[0, 2]],
        "annotated": [[0, 0], [0, 1], [0, 2], [1, 2]],
    }

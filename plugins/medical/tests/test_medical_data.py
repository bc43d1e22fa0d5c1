"""Data sets: what is read comes back on its grid, and what does not fit is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from medical_cases import LABELS, ball_and_box, write_dataset, write_nifti, write_pictures
from PIL import Image

from mambasdk.errors import InvalidArgumentError, MissingDependencyError
from mambasdk_medical.data import Labels, open_dataset
from mambasdk_medical.data.dataset import cases_in, read_case
from mambasdk_medical.data.files import read_image, read_labels, write_labels

REGIONS = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}


def test_cases_are_found_with_their_channels(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "Dataset001_T", channels=2))
    cases = dataset.training_cases()
    assert [case.name for case in cases] == [f"case{i}" for i in range(5)]
    image, labels, geometry = read_case(cases[0], dataset)
    assert image.shape == (2, 10, 20, 24)
    assert labels.shape == geometry.shape == (10, 20, 24)
    assert geometry.spacing == (3.0, 1.0, 1.0)
    np.testing.assert_allclose(image[1] - image[0], 1, atol=1e-5)


def test_a_number_names_a_data_set_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "Dataset007_Seven", cases=1)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert open_dataset("7").name == open_dataset("Dataset007_Seven").name == "Dataset007_Seven"
    with pytest.raises(InvalidArgumentError, match="no such data set"):
        open_dataset("8")


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7)])
def test_label_maps_come_back_on_grid_and_affine(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    turned = np.array([[0, -1.5, 0, 3], [0.8, 0, 0.1, -4], [0, 0, 2.5, 9], [0, 0, 0, 1.0]])
    chance = np.random.default_rng(0)
    volume = chance.normal(size=shape[::-1]).astype(np.float32)
    source = nibabel.Nifti1Image(volume, turned)
    source.header.set_xyzt_units("mm")
    nibabel.save(source, tmp_path / "image.nii.gz")
    image, geometry = read_image([tmp_path / "image.nii.gz"])
    np.testing.assert_array_equal(image[0], volume.transpose(2, 1, 0))
    labels = chance.integers(0, 4, shape).astype(np.uint8)
    write_labels(tmp_path / "labels.nii.gz", labels, geometry)
    written = nibabel.load(tmp_path / "labels.nii.gz")
    assert written.shape == volume.shape
    np.testing.assert_allclose(written.affine, turned, atol=1e-5)
    np.testing.assert_allclose(written.header.get_zooms(), source.header.get_zooms(), atol=1e-6)
    assert written.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.nii.gz")[0], labels)


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_pictures_are_single_slices(tmp_path: Path, ending: str) -> None:
    labels = np.random.default_rng(0).integers(0, 9, (6, 8)).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / f"a{ending}")
    read, geometry = read_labels(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(read, labels[None])
    write_labels(tmp_path / f"b{ending}", read, geometry)
    np.testing.assert_array_equal(read_labels(tmp_path / f"b{ending}")[0], labels[None])


def test_colours_are_three_channels_of_one_file(tmp_path: Path) -> None:
    dataset = open_dataset(write_pictures(tmp_path / "Dataset002_P", colours=True))
    image, labels, _ = read_case(dataset.training_cases()[0], dataset)
    assert image.shape == (3, 1, 32, 32)
    assert labels.shape == (1, 32, 32)


def test_regions_are_painted_in_their_order_and_labels_by_the_largest() -> None:
    regions = Labels.parse(REGIONS, [1, 2])
    scores = np.array([[1.0, 1.0, -1.0, -1.0], [-1.0, 1.0, 1.0, -1.0]])[..., None]
    assert regions.label_map(scores)[:, 0].tolist() == [1, 2, 2, 0]
    assert (regions.num_channels, regions.ignore, regions.channel_labels) == (2, 3, ["whole", "core"])
    labels = Labels.parse(LABELS)
    assert labels.label_map(np.array([[0.5, 0.0, 1.0], [0.5, 2.0, 0.0], [0.1, 2.0, 0.0]])).tolist() == [0, 1, 0]
    assert Labels.parse(regions.to_json()["labels"], regions.to_json()["regions_class_order"]) == regions
    # The order of the file does not matter for labels, but for regions it is the channels'.
    assert list(Labels.parse({"b": 2, "background": 0, "a": 1}).foreground) == ["a", "b"]


@pytest.mark.parametrize(
    ("labels", "order", "words"),
    [
        ({"liver": 1}, None, "no background"),
        ({"background": 0, "liver": 2}, None, "consecutive"),
        ({"background": 0, "liver": 1, "ignore": 1}, None, "highest"),
        ({"background": 0, "whole": [1, 2]}, None, "regions_class_order"),
        ({"background": 0, "liver": "one"}, None, "bad value"),
        ({}, None, "bad labels"),
    ],
)
def test_labels_that_mean_nothing_are_refused(labels: Any, order: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Labels.parse(labels, order)


def _first(root: Path, **settings: Any) -> tuple[Any, Any]:
    dataset = open_dataset(write_dataset(root, cases=1, **settings))
    return dataset, dataset.training_cases()[0]


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    dataset, case = _first(tmp_path / "D")
    _, labels = ball_and_box(np.random.default_rng(0), (10, 20, 24))
    for spacing, origin, cut, words in (
        ((3.0, 1.0, 1.1), 0.0, 24, "another spacing"),
        ((3.0, 1.0, 1.0), 5.0, 24, "lies elsewhere"),
        ((3.0, 1.0, 1.0), 0.0, 23, "another shape"),
    ):
        write_nifti(case.labels, labels[:, :, :cut], spacing, origin)
        with pytest.raises(InvalidArgumentError, match=words):
            read_case(case, dataset)


def test_labels_that_no_one_named_are_refused(tmp_path: Path) -> None:
    dataset, case = _first(tmp_path / "D", change=lambda labels: labels * 3)
    with pytest.raises(InvalidArgumentError, match="does not name: 3, 6"):
        read_case(case, dataset)
    write_nifti(case.labels, np.full((10, 20, 24), 0.5, np.float32), (3.0, 1.0, 1.0))
    with pytest.raises(InvalidArgumentError, match="no integers"):
        read_case(case, dataset)


def test_files_of_other_shapes_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), tmp_path / "four.nii.gz")
    with pytest.raises(InvalidArgumentError, match=r"4 axes.*one 3-D file for each channel"):
        read_image([tmp_path / "four.nii.gz"])
    write_nifti(tmp_path / "whole.nii.gz", np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32))
    data = (tmp_path / "whole.nii.gz").read_bytes()
    for keep in (20, len(data) // 2, len(data) - 9):
        (tmp_path / "cut.nii.gz").write_bytes(data[:keep])
        with pytest.raises(InvalidArgumentError, match=r"cut\.nii\.gz: cannot be read"):
            read_image([tmp_path / "cut.nii.gz"])
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        read_image([tmp_path / "cut.png"])
    write_nifti(tmp_path / "nan.nii.gz", np.full((4, 4, 4), np.nan, np.float32))
    with pytest.raises(InvalidArgumentError, match="not finite"):
        read_image([tmp_path / "nan.nii.gz"])
    with pytest.raises(InvalidArgumentError, match="no such file"):
        read_image([tmp_path / "absent.nii.gz"])


def test_missing_channels_are_named(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "D", cases=2, channels=2))
    (tmp_path / "D" / "imagesTr" / "case1_0001.nii.gz").unlink()
    with pytest.raises(InvalidArgumentError, match=r"case1 lacks case1_0001\.nii\.gz"):
        dataset.training_cases()
    with pytest.raises(InvalidArgumentError, match="no images"):
        cases_in(tmp_path / "D" / "labelsTr", ".nii.gz", 2)


def test_channels_on_different_grids_are_refused(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "D", cases=1, channels=2))
    case = dataset.training_cases()[0]
    write_nifti(case.images[1], np.ones((10, 20, 25), np.float32), (3.0, 1.0, 1.0))
    with pytest.raises(InvalidArgumentError, match=r"channel case0_0001\.nii\.gz has another shape"):
        read_case(case, dataset)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"numTraining": 7}, "numTraining"),
        ({"file_ending": ".nrrd"}, "bad file_ending"),
        ({"channel_names": ["MR"]}, "bad channel_names"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    write_dataset(tmp_path / "D", cases=1, description=fields)
    with pytest.raises(InvalidArgumentError, match=words):
        open_dataset(tmp_path / "D").training_cases()
    (tmp_path / "D" / "dataset.json").write_text("{")
    with pytest.raises(InvalidArgumentError, match="JSON"):
        open_dataset(tmp_path / "D")


def test_a_listed_data_set_names_its_files(tmp_path: Path) -> None:
    write_dataset(tmp_path / "D", cases=2)
    listed = {"x": {"images": ["imagesTr/case1_0000.nii.gz"], "label": "labelsTr/case1.nii.gz"}}
    path = tmp_path / "D" / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dataset": listed}))
    dataset = open_dataset(tmp_path / "D")
    assert [case.name for case in dataset.training_cases()] == ["x"]
    read_case(dataset.training_cases()[0], dataset)


def test_dicom_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    (tmp_path / "series").mkdir()
    with pytest.raises(MissingDependencyError, match=r"mambasdk-medical\[dicom\]"):
        read_image([tmp_path / "series"])

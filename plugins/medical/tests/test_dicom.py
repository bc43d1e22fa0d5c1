"""DICOM series: the voxels, in the units of the modality, where the scanner says that they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.data.files import read_image, read_labels, write_labels

pydicom: Any = pytest.importorskip("pydicom")

ACROSS, DOWN, START = (0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-12.0, 7.0, 30.0)  # a sagittal series
ROWS, COLUMNS, GAP = 0.7, 0.9, 2.5  # mm
ALONG = np.cross(ACROSS, DOWN)


def write_series(folder: Path, volume: Any, series: str = "1.2.3", name: str = "") -> None:
    """(D, H, W), int16, as a slice each, the files in another order than the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(volume):
        one = pydicom.dataset.FileDataset("", {}, preamble=b"\0" * 128)
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = pydicom.uid.CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = f"{series}.{index}"
        one.SeriesInstanceUID = series
        one.Rows, one.Columns = pixels.shape
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 1, 1
        one.PhotometricInterpretation = "MONOCHROME2"
        one.PixelSpacing = [ROWS, COLUMNS]
        one.ImageOrientationPatient = [*ACROSS, *DOWN]
        one.ImagePositionPatient = (np.array(START) + index * GAP * ALONG).tolist()
        one.RescaleSlope, one.RescaleIntercept = 2, -1024
        one.PixelData = pixels.astype(np.int16).tobytes()
        one.save_as(folder / f"{name}{(index * 5) % 7:02d}.dcm", enforce_file_format=True)


def test_a_series_is_a_volume_with_its_place(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 900, (7, 4, 5))
    write_series(tmp_path / "case_0000", volume)
    image, geometry = read_image([tmp_path / "case_0000"])
    np.testing.assert_array_equal(image[0], 2 * volume - 1024)
    assert geometry.spacing == (GAP, ROWS, COLUMNS)
    assert geometry.affine is not None
    for slice_, row, column in ((0, 0, 0), (6, 3, 4), (2, 1, 3)):
        place = (
            np.array(START) + slice_ * GAP * ALONG + column * COLUMNS * np.array(ACROSS) + row * ROWS * np.array(DOWN)
        )
        found = geometry.affine @ (column, row, slice_, 1)
        np.testing.assert_allclose(found[:3], place * (-1, -1, 1), atol=1e-9)  # NIfTI: right and front are positive
    labels = (volume > 500).astype(np.uint8)
    write_labels(tmp_path / "case.nii.gz", labels, geometry)
    read, theirs = read_labels(tmp_path / "case.nii.gz")
    np.testing.assert_array_equal(read, labels)
    geometry.check_same(theirs, "series", "labels")


def test_series_with_gaps_and_several_series_are_refused(tmp_path: Path) -> None:
    volume = np.ones((7, 4, 5))
    write_series(tmp_path / "a", volume)
    (tmp_path / "a" / "03.dcm").unlink()
    with pytest.raises(InvalidArgumentError, match="slices are missing"):
        read_image([tmp_path / "a"])
    write_series(tmp_path / "b", volume)
    write_series(tmp_path / "b", volume, "1.2.4", "other")
    with pytest.raises(InvalidArgumentError, match="2 series"):
        read_image([tmp_path / "b"])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "note.txt").write_text("no slice")
    with pytest.raises(InvalidArgumentError, match="cannot be read as DICOM"):
        read_image([tmp_path / "c"])

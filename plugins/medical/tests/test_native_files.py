"""NIfTI and PNG without Python: the same numbers as nibabel and Pillow, and clear errors for what is damaged."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mambasdk.errors import DtypeError, InvalidArgumentError, MambaSDKError
from mambasdk_medical.processors import MedicalImage, read_nifti, write_nifti

Array = npt.NDArray[Any]
AFFINE = np.array([[0.0, -0.8, 0.1, 12], [0.7, 0.05, 0, -30], [0.02, 0, 2.1, 4], [0, 0, 0, 1]])
TYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]
# Offsets of a header's members.
DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET, SLOPE, INTER, MAGIC = 40, 70, 72, 76, 108, 112, 116, 344


def drawn(shape: tuple[int, ...], dtype: Any) -> Array:
    chance = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return (chance.normal(size=shape) * 100).astype(dtype)
    info = np.iinfo(dtype)
    return chance.integers(info.min, info.max, shape, dtype, endpoint=True)


def file_of(samples: Array, *, order: str = "<", affine: Array = AFFINE, **fields: Any) -> bytes:
    """A .nii of samples (X, Y, Z) in a byte order; fields of its header by name."""
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(samples.dtype)
    image = nibabel.Nifti1Image(samples, affine, header)
    for name, value in fields.items():
        image.header[name] = value
    made: bytes = image.to_bytes()
    return made


def changed(file: bytes, at: int, code: str, *values: float) -> bytes:
    """The file with numbers of its little-endian header replaced."""
    content = struct.pack(f"<{code}", *values)
    return file[:at] + content + file[at + len(content) :]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("compressed", [False, True])
def test_voxels_of_every_type_are_nibabels(dtype: Any, order: str, compressed: bool) -> None:
    samples = drawn((5, 4, 3), dtype)
    file = file_of(samples, order=order)
    assert struct.unpack(f"{order}i", file[:4]) == (348,)
    found = read_nifti(gzip.compress(file) if compressed else file)
    assert np.array_equal(found.array, samples.T.astype(np.float32))
    zooms = nibabel.Nifti1Image.from_bytes(file).header.get_zooms()
    assert found.spacing == tuple(float(zoom) for zoom in zooms[::-1])


def test_scaling_is_the_headers(tmp_path: Path) -> None:
    file = changed(file_of(drawn((6, 5, 4), np.int16)), SLOPE, "ff", 0.037, -17.5)
    (tmp_path / "a.nii").write_bytes(file)
    expected = nibabel.Nifti1Image.from_bytes(file).get_fdata()
    found = read_nifti(tmp_path / "a.nii").array
    np.testing.assert_allclose(found, expected.T, rtol=1e-6, atol=1e-4)
    for nothing in (0.0, np.nan, np.inf):  # the standard's 0, and what some writers leave
        plain = read_nifti(changed(file, SLOPE, "ff", nothing, 5.0)).array
        assert np.array_equal(plain, drawn((6, 5, 4), np.int16).T)


@pytest.mark.parametrize(
    ("shape", "expected"), [((7, 5), (1, 5, 7)), ((7, 5, 1), (1, 5, 7)), ((4, 3, 2, 1), (2, 3, 4))]
)
def test_fewer_and_more_dims(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    samples = drawn(shape, np.int16)
    assert np.array_equal(read_nifti(file_of(samples)).array, samples.T.reshape(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_is_read_back(dtype: Any, compress: bool, tmp_path: Path) -> None:
    source = file_of(drawn((6, 5, 4), np.float32), qform_code=1, sform_code=4, xyzt_units=10)
    labels = drawn((4, 5, 6), dtype)
    file = write_nifti(labels, read_nifti(source).header, compress=compress)
    assert file == write_nifti(labels, read_nifti(source).header, compress=compress)
    path = tmp_path / ("a.nii.gz" if compress else "a.nii")
    path.write_bytes(file)
    found, image = nibabel.load(path), nibabel.Nifti1Image.from_bytes(source)
    assert found.get_data_dtype() == dtype
    assert np.array_equal(np.asanyarray(found.dataobj).T, labels)
    assert np.array_equal(found.affine, image.affine)
    assert np.array_equal(found.get_qform(), image.get_qform())
    for name in ("qform_code", "sform_code", "xyzt_units"):
        assert found.header[name] == image.header[name]
    assert found.header.get_zooms() == image.header.get_zooms()
    assert np.array_equal(read_nifti(path).array, labels.astype(np.float32))


def test_a_header_is_made_of_spacing_and_affine() -> None:
    labels = drawn((3, 4, 5), np.uint8)
    found = nibabel.Nifti1Image.from_bytes(write_nifti(labels, spacing=(3.0, 2.0, 1.5), affine=AFFINE, compress=False))
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)
    assert found.header.get_zooms() == (1.5, 2.0, 3.0)
    assert np.array_equal(np.asanyarray(found.dataobj).T, labels)


def test_other_types_are_not_written() -> None:
    with pytest.raises(DtypeError, match="expected uint8, int16, uint16, int32 or float32"):
        write_nifti(np.zeros((2, 2, 2), np.int64))


def test_a_big_endian_header_is_kept() -> None:
    source = file_of(drawn((5, 4, 3), np.int16), order=">")
    file = write_nifti(np.ones((3, 4, 5), np.uint8), read_nifti(source).header, compress=False)
    found, image = nibabel.Nifti1Image.from_bytes(file), nibabel.Nifti1Image.from_bytes(source)
    assert np.array_equal(found.affine, image.affine)
    assert found.header.get_zooms() == image.header.get_zooms()


def test_gzip_files_may_be_several() -> None:
    """As bgzip and parallel compressors write them."""
    file = file_of(drawn((9, 8, 7), np.int16))
    pieces = b"".join(gzip.compress(file[at : at + 100]) for at in range(0, len(file), 100))
    assert np.array_equal(read_nifti(pieces).array, drawn((9, 8, 7), np.int16).T)


GOOD = file_of(drawn((6, 5, 4), np.int16))
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "348 bytes early|ends"),
    "a header cut off": (GOOD[:200], "cut off"),
    "voxels cut off": (GOOD[:-1], "cannot hold the .* voxels"),
    "gzip cut off": (gzip.compress(GOOD)[:-60], "the gzip file ends early"),
    "gzip without its checksum": (gzip.compress(GOOD)[:-4], "the gzip file ends early"),
    "gzip with another checksum": (
        gzip.compress(GOOD)[:-8] + bytes(8),
        "damaged: incorrect data check",
    ),
    "gzip of nothing": (b"\x1f\x8b", "ends early"),
    "another header size": (changed(GOOD, 0, "i", 347), "said to have 347 bytes"),
    "version 2": (changed(GOOD, 0, "i", 540), "version 2, expected NIfTI-1"),
    "a pair": (changed(GOOD, MAGIC, "4s", b"ni1\0"), "header of a pair"),  # type: ignore[arg-type]
    "Analyze": (changed(GOOD, MAGIC, "4s", b"\0\0\0\0"), "Analyze or damaged"),  # type: ignore[arg-type]
    "no dims": (changed(GOOD, DIM, "h", 0), "said to have 0 dims"),
    "eight dims": (changed(GOOD, DIM, "h", 8), "said to have 8 dims"),
    "a dim of 0": (changed(GOOD, DIM, "4h", 3, 6, 0, 4), "dim 2 is 0"),
    "a negative dim": (changed(GOOD, DIM, "4h", 3, 6, 5, -4), "dim 3 is -4"),
    "more than the file": (changed(GOOD, DIM, "4h", 3, 30000, 30000, 4), "cannot hold|at most"),
    "more than memory": (changed(GOOD, DIM, "4h", 3, 32767, 32767, 32767), "expected at most 1073741824 voxels"),
    "four volumes": (changed(GOOD, DIM, "5h", 4, 3, 5, 2, 4), "split it into one file for each"),
    "complex numbers": (changed(GOOD, DATATYPE, "hh", 32, 64), "voxels of type 32, expected 2"),
    "other bits": (changed(GOOD, BITPIX, "h", 8), "said to have 8 bits"),
    "spacing of 0": (changed(GOOD, PIXDIM, "4f", 1, 1, 0, 1), "spacing along dim 2 is 0"),
    "no spacing": (changed(GOOD, PIXDIM, "4f", 1, np.nan, 1, 1), "spacing along dim 1"),
    "endless spacing": (changed(GOOD, PIXDIM, "4f", 1, 1, 1, np.inf), "spacing along dim 3"),
    "voxels in the header": (changed(GOOD, VOX_OFFSET, "f", 100), "begin at byte 100"),
    "voxels behind the file": (changed(GOOD, VOX_OFFSET, "f", 1e6), "cannot hold"),
    "voxels nowhere": (changed(GOOD, VOX_OFFSET, "f", np.nan), "begin at byte"),
    "a shift that is no number": (changed(GOOD, SLOPE, "ff", 2, np.nan), "scl_inter is not a number"),
    "a scale too large": (changed(GOOD, SLOPE, "ff", 3e38, 0), "no finite float32 numbers"),
    "voxels that are no numbers": (file_of(np.full((2, 2, 2), np.nan, np.float32)), "has 8 voxels"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_say_what_is_wrong(name: str) -> None:
    file, message = DAMAGED[name]
    with pytest.raises(MambaSDKError, match=message):
        read_nifti(file)


def test_a_short_file_does_not_ask_for_memory() -> None:
    """1.9e9 voxels are below the limit given, and far more than 1,000 compressed bytes hold."""
    file = gzip.compress(changed(GOOD, DIM, "4h", 3, 30000, 30000, 2))
    with pytest.raises(ValueError, match="cannot hold the"):
        read_nifti(file, max_voxels=2**40)


def test_a_limit_on_voxels() -> None:
    with pytest.raises(InvalidArgumentError, match="expected at most 119 voxels"):
        read_nifti(GOOD, max_voxels=119)
    assert read_nifti(GOOD, max_voxels=120).array.size == 120


def png(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def pictures() -> dict[str, tuple[bytes, Array]]:
    chance = np.random.default_rng(1)
    grey = chance.integers(0, 256, (13, 21), dtype=np.uint8)
    colours = chance.integers(0, 256, (13, 21, 4), dtype=np.uint8)
    deep = chance.integers(0, 65536, (13, 21), dtype=np.uint16)
    smooth = (np.add.outer(np.arange(40), np.arange(50)) * 2).astype(np.uint8)  # rows with filters of every kind
    few = Image.fromarray(grey % 4).convert("P")
    return {
        "grey": (png(Image.fromarray(grey)), grey[None]),
        "smooth": (png(Image.fromarray(smooth), optimize=True), smooth[None]),
        "16 bits": (png(Image.fromarray(deep)), deep[None]),
        "colours": (png(Image.fromarray(colours[..., :3])), colours[..., :3].transpose(2, 0, 1)),
        "colours and alpha": (png(Image.fromarray(colours)), colours[..., :3].transpose(2, 0, 1)),
        "grey and alpha": (png(Image.fromarray(colours[..., :2], "LA")), colours[None, ..., 0]),
        "1 bit": (png(Image.fromarray(grey > 90)), (grey > 90)[None].astype(np.uint8)),
        "a palette of 2 bits": (png(few, bits=2), np.asarray(few)[None]),
    }


@pytest.mark.parametrize("name", pictures())
def test_pixels_are_pillows(name: str) -> None:
    file, expected = pictures()[name]
    prepare = MedicalImage(channels=len(expected), normalization=["none"], crop=False)
    found = prepare(file)
    assert np.array_equal(found["volume"], expected[:, None].astype(np.float32))
    assert found["volume.spacing"].tolist() == [999.0, 1.0, 1.0]
    assert found["volume.header"].size == 0


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_damaged_pictures_say_what_is_wrong() -> None:
    file = pictures()["grey"][0]
    header = struct.pack(">IIBBBBB", 21, 13, 8, 0, 0, 0, 1)
    sizes = struct.pack(">IIBBBBB", 50000, 20000, 8, 0, 0, 0, 0)
    start, end = file[:8], chunk(b"IEND", b"")
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    for damaged, message in (
        (file[:-20], "cut off"),
        (file[:40] + b"\xff" + file[41:], "damaged"),
        (start + chunk(b"IHDR", header) + pixels + end, "interlaced"),
        (start + chunk(b"IHDR", sizes) + pixels + end, "cannot hold the pixels|at most"),
        (start + chunk(b"IHDR", struct.pack(">IIBBBBB", 21, 13, 8, 0, 0, 0, 0)) + pixels + end, "damaged|end early"),
        (start + chunk(b"IHDR", struct.pack(">IIBBBBB", 21, 13, 9, 0, 0, 0, 0)) + pixels + end, "no known coding"),
        (start + pixels + end, "does not begin with its header"),
    ):
        with pytest.raises(MambaSDKError, match=message):
            MedicalImage(channels=1)(damaged)

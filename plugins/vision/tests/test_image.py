"""The image processor: the same pixels as Pillow, upright, cropped and normalised; clear errors for damaged files."""

from __future__ import annotations

import io
import random
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from mambasdk_vision import ImageProcessor

Pixels = npt.NDArray[np.uint8]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def photo(height: int, width: int, seed: int = 0) -> Pixels:
    """Smooth shapes with noise on them, uint8 (height, width, 3)."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (5 + c) + y / (9 - c)) for c in range(3)]
    noise = chance.normal(0, 25, (height, width, 3))
    return np.clip(np.stack(waves, -1) * 100 + 128 + noise, 0, 255).astype(np.uint8)


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(made: dict[str, npt.NDArray[np.float32]]) -> Pixels:
    """Samples 0 to 255 of an image that was only divided by 255; exact, or the test fails."""
    scaled = made["image"][0].transpose(1, 2, 0) * 255
    rounded = np.rint(scaled)
    np.testing.assert_allclose(scaled, rounded, atol=1e-4)
    return rounded.astype(np.uint8)


# Narrower and wider, shorter and taller, and each axis as it was.
SIZES = [
    (37, 61, 24, 20),
    (61, 37, 20, 24),
    (8, 8, 31, 17),
    (8, 8, 17, 31),
    (200, 3, 10, 30),
    (50, 50, 20, 20),
    (1, 1, 5, 5),
    (64, 48, 64, 12),
    (64, 48, 12, 48),
    (20, 30, 20, 30),
]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("height", "width", "to_height", "to_width"), SIZES)
def test_resize_gives_pillows_bits(name: str, height: int, width: int, to_height: int, to_width: int) -> None:
    """Rows, then columns, bit for bit. Pillow 13 takes the other order for some shapes: 2 of 255 at most."""
    source = photo(height, width)
    made = ImageProcessor(size=[to_height, to_width], resize="exact", interpolation=name)(source)
    image = Image.fromarray(source)
    expected = image.resize((to_width, height), FILTERS[name]).resize((to_width, to_height), FILTERS[name])
    np.testing.assert_array_equal(pixels_of(made), np.asarray(expected))
    at_once = np.asarray(image.resize((to_width, to_height), FILTERS[name])).astype(int)
    assert np.abs(pixels_of(made).astype(int) - at_once).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(60, 91), (91, 60), (33, 33), (17, 400)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_shortest_side_and_centre_crop(height: int, width: int, crop_pct: float) -> None:
    source = photo(height, width)
    size = 32
    side = int(size / crop_pct)
    ratio_height, ratio_width = (side, side * width // height) if height <= width else (side * height // width, side)
    narrowed = Image.fromarray(source).resize((ratio_width, height), Image.Resampling.BICUBIC)
    whole = np.asarray(narrowed.resize((ratio_width, ratio_height), Image.Resampling.BICUBIC))
    top, left = round((ratio_height - size) / 2), round((ratio_width - size) / 2)
    made = ImageProcessor(size=size, crop_pct=crop_pct)(source)
    np.testing.assert_array_equal(pixels_of(made), whole[top : top + size, left : left + size])
    # A point of the output lies where image_transform says.
    scale_x, scale_y, offset_x, offset_y = made["image_transform"]
    assert offset_x == pytest.approx(left * width / ratio_width)
    assert offset_y == pytest.approx(top * height / ratio_height)
    assert (scale_x, scale_y) == pytest.approx((width / ratio_width, height / ratio_height))
    assert made["image_size"].tolist() == [height, width]


LETTERBOXES = [
    (60, 91, 32, 32),
    (91, 60, 32, 32),
    (33, 33, 32, 64),
    (17, 400, 64, 96),
    (5, 9, 64, 31),
    (400, 1, 32, 32),
]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("height", "width", "to_height", "to_width"), LETTERBOXES)
def test_letterbox_keeps_the_aspect_between_borders(
    name: str, height: int, width: int, to_height: int, to_width: int
) -> None:
    """The largest whole sides that fit, in the middle; of an odd border the smaller part is first."""
    source = photo(height, width)
    made = ImageProcessor(size=[to_height, to_width], resize="letterbox", interpolation=name)(source)
    scale = min(to_height / height, to_width / width)
    new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = (to_height - new_height) // 2, (to_width - new_width) // 2
    expected = np.full((to_height, to_width, 3), 114, np.uint8)
    narrowed = Image.fromarray(source).resize((new_width, height), FILTERS[name])
    expected[top : top + new_height, left : left + new_width] = narrowed.resize((new_width, new_height), FILTERS[name])
    np.testing.assert_array_equal(pixels_of(made), expected)
    # The corners of the picture in the output are those of the original.
    scale_x, scale_y, offset_x, offset_y = made["image_transform"]
    ends = (
        scale_x * np.array([left, left + new_width]) + offset_x,
        scale_y * np.array([top, top + new_height]) + offset_y,
    )
    np.testing.assert_allclose(ends, [[0, width], [0, height]], atol=1e-9)
    assert made["image_size"].tolist() == [height, width]


def test_letterbox_of_another_grey_and_of_a_thin_image() -> None:
    made = pixels_of(ImageProcessor(size=32, resize="letterbox", fill=128)(photo(8, 16)))
    assert (made[:8] == 128).all()
    assert (made[24:] == 128).all()
    thin = pixels_of(ImageProcessor(size=64, resize="letterbox")(photo(1, 100_000)))
    assert (thin[:31] == 114).all()
    assert (thin[32:] == 114).all()


def test_normalisation_and_layout() -> None:
    source = photo(9, 7)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    first = ImageProcessor(resize="none", mean=mean, std=std)(source)["image"]
    last = ImageProcessor(resize="none", mean=mean, std=std, layout="channels_last", output="x")(source)["x"]
    np.testing.assert_allclose(last[0], (source / 255.0 - mean) / std, atol=1e-6)
    np.testing.assert_array_equal(first[0].transpose(1, 2, 0), last[0])
    assert (first.shape, last.shape) == ((1, 3, 9, 7), (1, 9, 7, 3))


MODES = ["RGB", "L", "P", "1", "RGBA", "LA"]


@pytest.mark.parametrize("mode", MODES)
def test_png_of_every_kind_as_pillow_reads_it(mode: str) -> None:
    data = file_of(Image.fromarray(photo(23, 31)).convert(mode), "png")
    made = ImageProcessor(resize="none")(data)
    np.testing.assert_array_equal(pixels_of(made), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_as_pillow_reads_it(mode: str, options: dict[str, object]) -> None:
    """Both use libjpeg-turbo, whose versions may round chroma differently by a step or two."""
    data = file_of(Image.fromarray(photo(43, 59)).convert(mode), "jpeg", **options)
    made = pixels_of(ImageProcessor(resize="none")(data)).astype(int)
    assert np.abs(made - np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)).max() <= 2


def test_cmyk_jpeg() -> None:
    source = np.zeros((8, 8, 3), np.uint8)
    source[:, 4:] = (250, 128, 20)
    data = file_of(Image.fromarray(source).convert("CMYK"), "jpeg", quality=100)
    made = pixels_of(ImageProcessor(resize="none")(data)).astype(int)
    assert np.abs(made - source).max() <= 6


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(Image.fromarray(photo(16, 24)), kind, exif=exif.tobytes())
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    made = ImageProcessor(resize="none")(data)
    assert made["image_size"].tolist() == [upright.height, upright.width]
    assert np.abs(pixels_of(made).astype(int) - np.asarray(upright).astype(int)).max() <= (2 if kind == "jpeg" else 0)


def test_path_bytes_and_pixels_are_one(tmp_path: Path) -> None:
    source = photo(40, 30)
    data = file_of(Image.fromarray(source), "png")
    (tmp_path / "x.png").write_bytes(data)
    prepare = ImageProcessor(size=16)
    expected = prepare(source)["image"]
    for given in (data, tmp_path / "x.png", str(tmp_path / "x.png")):
        np.testing.assert_array_equal(prepare(given)["image"], expected)


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    source = photo(12, 12)
    made = ImageProcessor(size=8)(torch.from_numpy(source))["image"]
    assert isinstance(made, torch.Tensor)
    np.testing.assert_array_equal(made.numpy(), ImageProcessor(size=8)(source)["image"])


BAD_FILES = [b"", b"GIF89a" + bytes(40), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0" + bytes(100)]


@pytest.mark.parametrize("data", BAD_FILES)
def test_other_and_broken_files_are_clear_errors(data: bytes) -> None:
    with pytest.raises(Exception, match=r"image: (these \d+ bytes are neither PNG nor JPEG|the (PNG|JPEG) file is)"):
        ImageProcessor()(data)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_cut_files_are_errors_and_damage_never_crashes(kind: str) -> None:
    data = file_of(Image.fromarray(photo(40, 40)), kind)
    prepare = ImageProcessor(size=16)
    for length in range(0, len(data) - 2, 97):
        with pytest.raises(Exception, match="image: "):
            prepare(data[:length])
    chance = random.Random(0)
    for _ in range(200):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            broken[chance.randrange(len(data))] = chance.randrange(256)
        try:
            assert prepare(bytes(broken))["image"].shape == (1, 3, 16, 16)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            assert str(error).startswith("image: ")  # noqa: PT017


def test_bombs_are_refused_before_decoding() -> None:
    huge = file_of(Image.new("1", (30000, 30000)), "png")
    with pytest.raises(ValueError, match=r"it is 30000 x 30000, expected at most 67108864 pixels; raise max_pixels"):
        ImageProcessor()(huge)
    with pytest.raises(ValueError, match="it is 11 x 10, expected at most 100"):
        ImageProcessor(max_pixels=100)(photo(10, 11))


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_header_that_claims_more_than_the_file_can_hold(kind: str) -> None:
    """Refused before memory is asked for; the largest image that such a file may be is not."""
    data = bytearray(file_of(Image.new("RGB", (64, 64)), kind))
    place = data.index(b"IHDR") + 4 if kind == "png" else data.index(b"\xff\xc0") + 5
    size = 4 if kind == "png" else 2
    data[place : place + 2 * size] = (8000).to_bytes(size, "big") * 2
    if kind == "png":
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(Exception, match="bytes cannot hold an image of the size that they say"):
        ImageProcessor()(bytes(data))
    blank = file_of(Image.new("L", (8000, 8000), 128), kind)
    assert ImageProcessor(size=8)(blank)["image"].shape == (1, 3, 8, 8)


def test_a_thin_image_costs_only_its_crop() -> None:
    """Resized whole it would have 1 : 100 000 sides, 224 x 22 400 000 pixels."""
    assert ImageProcessor(size=224)(photo(1, 100_000))["image"].shape == (1, 3, 224, 224)


BAD_OPTIONS = [
    ({"sise": 224}, 'image has no option "sise"; it has size, resize'),
    ({"size": 0}, "image: size: expected an integer from 1 to 16384, got 0"),
    ({"size": [1, 2, 3]}, r"image: size: expected 2 integers, got \[1,2,3\]"),
    ({"resize": "stretch"}, "image: resize: expected one of shortest, exact, none, letterbox"),
    ({"resize": "letterbox", "crop_pct": 0.9}, "image: crop_pct: expected a number from 1.0 to 1.0"),
    ({"fill": 256}, "image: fill: expected an integer from 0 to 255, got 256"),
    ({"std": [1, 0, 1]}, "image: std: expected a number from"),
    ({"crop_pct": 1.5}, "image: crop_pct: expected a number from 0.01 to 1.0"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageProcessor(**options)


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="got \\(4, 4\\)"):
        ImageProcessor()(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="no pixels"):
        ImageProcessor()(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="element type"):
        ImageProcessor()(np.zeros((4, 4, 3), np.float32))

"""The native head of segmentation against its definition in torch, and the reader of masks against Pillow."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import toy_pipelines
from PIL import Image
from torch.nn import functional

from mambasdk.lowering import Program
from mambasdk.pipeline import load_pipeline
from mambasdk_vision import ImageProcessor, MaskProcessor, SemanticSegmentation
from mambasdk_vision.plugin import LIBRARY

Array = npt.NDArray[Any]


def logits(classes: int, height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(1, classes, height, width)).astype(np.float32)


def best(values: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """The definition: bilinear, then the largest; and where the two largest are further apart than rounding."""
    full = functional.interpolate(torch.from_numpy(values).double(), size=size, mode="bilinear", align_corners=False)
    top = full[0].topk(min(2, full.shape[1]), dim=0).values
    clear = (top[0] - top[-1] > 1e-5) if len(top) > 1 else torch.ones(size, dtype=torch.bool)
    return full[0].argmax(0).numpy(), clear.numpy()


@pytest.mark.parametrize(
    ("classes", "cells", "size"),
    [(5, (7, 9), (61, 83)), (2, (1, 1), (5, 3)), (1, (3, 4), (6, 8)), (19, (16, 16), (9, 7)), (7, (13, 4), (13, 4)),
     (255, (3, 5), (17, 1)), (300, (9, 5), (40, 33)), (4, (1, 6), (1, 100))],
    ids=str,
)  # fmt: skip
def test_the_map_is_torchs_interpolation_and_argmax(
    classes: int, cells: tuple[int, int], size: tuple[int, int]
) -> None:
    values = logits(classes, *cells)
    image = ImageProcessor(size=[64, 48], resize="exact")(np.zeros((*size, 3), np.uint8))
    made = SemanticSegmentation()(values, image=image)
    expected, clear = best(values, size)
    found = made["class_map"]
    assert found.shape == size
    assert found.dtype == (np.uint8 if classes <= 255 else np.int32)
    assert np.array_equal(found[clear], expected[clear])
    assert clear.mean() > 0.99
    counts = np.bincount(found.reshape(-1), minlength=classes)
    rows = made["json"]["classes"]
    assert {row["index"]: row["pixels"] for row in rows} == {i: n for i, n in enumerate(counts.tolist()) if n}
    assert [row["pixels"] for row in rows] == sorted(counts[counts > 0].tolist(), reverse=True)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert (made["json"]["height"], made["json"]["width"]) == size


def test_without_an_image_the_logits_are_the_size() -> None:
    values = logits(6, 5, 8)
    assert np.array_equal(SemanticSegmentation()(values)["class_map"], values[0].argmax(0))
    assert np.array_equal(SemanticSegmentation()(values[0])["class_map"], values[0].argmax(0))


@pytest.mark.parametrize("resize", ["shortest", "exact"])
def test_what_a_crop_left_out_has_no_class(resize: str) -> None:
    """Logits that tell left from right and top from bottom of the model's image come back to where those lie."""
    height, width = 90, 200
    image = ImageProcessor(size=[32, 32], resize=resize, crop_pct=0.8)(np.zeros((height, width, 3), np.uint8))
    scale_x, scale_y, offset_x, offset_y = image["image_transform"]
    values = np.zeros((1, 4, 8, 8), np.float32)
    for index, (rows, columns) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        values[0, index, rows : rows + 4, columns : columns + 4] = 1
    found = SemanticSegmentation(ignore=77)(values, image=image)["class_map"]
    y, x = (np.arange(height) + 0.5 - offset_y) / scale_y, (np.arange(width) + 0.5 - offset_x) / scale_x
    seen = ((y > 0) & (y < 32))[:, None] & ((x > 0) & (x < 32))[None]
    quarter = 2 * (y > 16)[:, None] + (x > 16)[None]
    clear = (np.abs(y - 16) > 1)[:, None] & (np.abs(x - 16) > 1)[None] & seen
    assert 0.2 < seen.mean() < 0.9
    assert np.array_equal(found[clear], quarter[clear])
    assert (found[~seen] == 77).all()


def test_labels_palette_and_runs() -> None:
    values = np.full((1, 3, 2, 3), -1, np.float32)
    for place, index in {(0, 0): 2, (0, 1): 2, (0, 2): 0, (1, 0): 0, (1, 1): 0, (1, 2): 2}.items():
        values[0, index][place] = 1
    head = SemanticSegmentation(labels=["sky", "road", "cat"], palette=["#000102", "#ffFF00", "#102030"], runs=True)
    made = head(values)
    assert made["json"] == {
        "height": 2,
        "width": 3,
        "classes": [
            {"label": "sky", "index": 0, "share": 0.5, "pixels": 3, "color": "#000102"},
            {"label": "cat", "index": 2, "share": 0.5, "pixels": 3, "color": "#102030"},
        ],
        "runs": [[2, 2], [0, 3], [2, 1]],
    }
    assert made["palette"].tolist() == [[0, 1, 2], [255, 255, 0], [16, 32, 48]]
    assert "runs" not in head.run(logits=values, options='{"runs": false}')["json"]
    # PASCAL VOC's first colours.
    assert SemanticSegmentation()(values)["palette"].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert SemanticSegmentation()(logits(21, 1, 1))["palette"][15].tolist() == [192, 128, 128]


def test_what_is_no_number_has_no_class() -> None:
    values = np.full((1, 3, 2, 2), np.nan, np.float32)
    made = SemanticSegmentation()(values)
    assert (made["class_map"] == 255).all()
    assert made["json"]["classes"] == []
    many = SemanticSegmentation()(np.full((1, 300, 1, 2), np.nan, np.float32))
    assert (many["class_map"] == -1).all()
    values[0, 1] = 0
    assert (SemanticSegmentation()(values)["class_map"] == 1).all()
    huge = np.full((1, 2, 2, 2), 3e38, np.float32)
    huge[0, 1] = -3e38
    assert (SemanticSegmentation()(huge, image=_image(5, 5))["class_map"] == 0).all()


def _segmented(options: dict[str, Any], values: Array, image: dict[str, Any] | None) -> dict[str, Any]:
    return SemanticSegmentation(**options)(values, image=image)


def _image(height: int, width: int, **changes: Any) -> dict[str, Any]:
    made = ImageProcessor(size=8, resize="exact")(np.zeros((height, width, 3), np.uint8))
    return {**made, **changes}


@pytest.mark.parametrize(
    ("options", "values", "image", "message"),
    [
        ({}, np.zeros((2, 3, 4, 4), np.float32), None, r"logits: expected f32 \(1, C, h, w\).* got \(2, 3, 4, 4\)"),
        ({}, np.zeros((3, 4), np.float32), None, "logits: expected f32"),
        ({}, np.zeros((1, 3, 0, 4), np.float32), None, "with elements"),
        ({}, np.zeros((1, 0, 4, 4), np.float32), None, "with elements"),
        ({"labels": ["a"]}, logits(3, 2, 2), None, "labels: expected one for each of 3 classes, got 1"),
        ({"palette": ["#000000"] * 4}, logits(3, 2, 2), None, "palette: expected one for each of 3 classes, got 4"),
        ({"palette": ["red"]}, logits(1, 2, 2), None, 'palette: expected colours as "#ff8000", got'),
        ({"palette": ["#00000g"]}, logits(1, 2, 2), None, "palette: expected colours"),
        ({"ignore": 1}, logits(3, 2, 2), None, "ignore: expected no index of the 3 classes, got 1"),
        ({"max_pixels": 10}, logits(3, 2, 2), (4, 4, {}), "of at most 10 pixels, got 4 x 4"),
        ({}, logits(3, 2, 2), (4, 4, {"image_size": np.array([1 << 40, 1 << 40])}), "image_size: expected"),
        ({}, logits(3, 2, 2), (4, 4, {"image_size": np.array([0, 4])}), "image_size: expected"),
        ({}, logits(3, 2, 2), (4, 4, {"image_size": np.array([4])}), r"image_size: expected \(2\)"),
        ({}, logits(3, 2, 2), (4, 4, {"image_transform": np.array([1.0, 0, 0, 0])}), "image_transform: expected pos"),
        ({}, logits(3, 2, 2), (4, 4, {"image_transform": np.array([1, 1, np.inf, 0])}), "finite offsets"),
        ({}, logits(3, 2, 2), (4, 4, {"image": np.zeros(3, np.float32)}), "image: expected"),
        ({"runs": 1}, logits(3, 2, 2), None, "runs: expected true or false"),
        ({"colour": 1}, logits(3, 2, 2), None, 'no option "colour"'),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_cannot_be_is_named(
    options: dict[str, Any], values: Array, image: tuple[int, int, dict[str, Any]] | None, message: str
) -> None:
    given = None if image is None else _image(image[0], image[1], **image[2])
    with pytest.raises(ValueError, match=message):
        _segmented(options, values, given)
    with pytest.raises(ValueError, match='no option "top_k"'):
        SemanticSegmentation().run(logits=logits(2, 1, 1), options='{"top_k": 1}')


def test_python_and_cpp_say_the_same(tmp_path: Path) -> None:
    program = Program()
    flat = program.reshape(program.input("image", "f32", [1, 3, 8, 8]), [1, 192])
    program.output("logits", program.reshape(program.linear(flat, "x", bias=False), [1, 3, 4, 5]), "f32", [1, 3, 4, 5])
    weights = {"x.weight": np.random.default_rng(3).normal(0, 0.2, (60, 192)).astype(np.float32)}
    package = toy_pipelines.write_package(
        tmp_path / "segmenter",
        program,
        weights,
        processors={"image": {"kind": "image", "size": 8, "crop_pct": 0.9}},
        head="semantic_segmentation",
        head_options={"labels": ["one", "two", "three"], "runs": True},
        plugin="mambasdk-vision",
    )
    pixels = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    files = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for file in files:
        Image.fromarray(pixels).save(file)
    results = [load_pipeline(package).run({"image": file.read_bytes()})["json"] for file in files]
    assert toy_pipelines.run_cpp(package, "image", files, LIBRARY) == results
    assert sum(length for _, length in results[0]["runs"]) == 31 * 45
    assert {index for index, _ in results[0]["runs"]} >= {255}  # the sides that the crop leaves out


def _file(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("mode", "bits"), [("L", 8), ("P", 8), ("P", 4), ("P", 2), ("P", 1), ("1", 1)])
def test_masks_keep_their_indices(mode: str, bits: int) -> None:
    indices = np.random.default_rng(bits).integers(0, 2**bits, (13, 9), dtype=np.uint8)
    image = Image.fromarray(indices)
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    if mode == "1":
        image = Image.fromarray(indices.astype(bool))
    file = _file(image, **({"bits": bits} if mode == "P" else {}))
    found = MaskProcessor()(file)
    assert found.dtype == np.uint8
    assert np.array_equal(found, indices)


def test_interlaced_masks_and_transparency_keep_their_indices(tmp_path: Path) -> None:
    indices = np.random.default_rng(0).integers(0, 256, (5, 6), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(list(range(256)) * 3)
    (tmp_path / "a.png").write_bytes(_file(image, transparency=0))
    assert np.array_equal(MaskProcessor()(tmp_path / "a.png"), indices)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (_file(Image.new("RGB", (3, 3))), "its pixels are colours or have 16 bits"),
        (_file(Image.new("LA", (3, 3))), "its pixels are colours"),
        (_file(Image.fromarray(np.zeros((3, 3), np.uint16))), "16 bits"),
        (b"\xff\xd8\xff0000", "are no PNG; masks are PNG files"),
        (b"", "are no PNG"),
        (_file(Image.new("L", (300, 300), 3))[:-60], "damaged"),
    ],
    ids=["colours", "alpha", "16 bits", "jpeg", "empty", "cut"],
)
def test_other_files_are_no_masks(file: bytes, message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        MaskProcessor()(file)


def test_a_mask_may_be_too_large() -> None:
    with pytest.raises(ValueError, match="expected at most 10 pixels"):
        MaskProcessor(max_pixels=10)(_file(Image.new("L", (4, 4))))
    with pytest.raises((ValueError, RuntimeError), match="expected one input"):
        MaskProcessor()(np.zeros((3, 3), np.uint8))
    assert json.dumps(MaskProcessor()(_file(Image.new("L", (2, 1), 7))).tolist()) == "[[7, 7]]"

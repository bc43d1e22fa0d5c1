"""Labels of three formats become one form; what is wrong in them is named by file and line, all at once."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision import ImageProcessor
from mambasdk_vision.detection.coco import read_coco
from mambasdk_vision.detection.data import DetectionData, split
from mambasdk_vision.detection.image_header import read_size
from mambasdk_vision.detection.reading import read_data
from mambasdk_vision.detection.voc import read_voc
from mambasdk_vision.detection.yolo_labels import label_file, read_yolo

pytest.importorskip("yaml")
WIDTH, HEIGHT = 80, 40


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (30, 90, 200)).save(path)
    return path


def yolo(root: Path, labels: dict[str, str | None], names: str = "[cat, dog]") -> Path:
    """A data.yaml with a picture for each entry; None: no label file."""
    for name, text in labels.items():
        picture(root / "images" / "train" / f"{name}.png")
        if text is not None:
            file = root / "labels" / "train" / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    (root / "data.yaml").write_text(f"train: images/train\nval: images/train\nnames: {names}\n")
    return root / "data.yaml"


def coco(root: Path, annotations: list[dict[str, Any]], images: int = 2) -> Path:
    for index in range(images):
        picture(root / "val" / f"{index}.png")
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(images)],
        "annotations": [{"id": number, "image_id": 0, **row} for number, row in enumerate(annotations, 1)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }
    file = root / "annotations" / "instances_val.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def voc(root: Path, objects: dict[str, str]) -> Path:
    for name, text in objects.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation>\n <size><width>{WIDTH}</width><height>{HEIGHT}</height></size>\n{text}</annotation>\n"
        )
    return root


def voc_object(name: str, box: tuple[object, ...], more: str = "") -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f" <object>\n  <name>{name}</name>{more}<bndbox>{corners}</bndbox>\n </object>\n"


def test_the_same_boxes_in_three_formats(tmp_path: Path) -> None:
    """A cat from (8, 4) to (40, 24) and a dog from (60, 10) to (80, 40)."""
    text = "0 0.3 0.35 0.4 0.5\n1 0.875 0.625 0.25 0.75\n"
    rows = [
        {"category_id": 3, "bbox": [8, 4, 32, 20], "area": 500.0},
        {"category_id": 7, "bbox": [60, 10, 20, 30]},
    ]
    xml = voc_object("cat", (9, 5, 40, 24)) + voc_object("dog", (61, 11, 80, 40))
    found = [
        read_yolo(yolo(tmp_path / "yolo", {"a": text, "b": None}), "train"),
        read_coco(coco(tmp_path / "coco", rows)),
        read_voc(voc(tmp_path / "voc", {"a": xml, "b": ""})),
    ]
    for data in found:
        assert isinstance(data, DetectionData)
        assert data.classes == ["cat", "dog"]
        assert [len(image.classes) for image in data.images] == [2, 0]
        assert data.images[0].size == (HEIGHT, WIDTH)
        expected = [[0, 0.3, 0.35, 0.4, 0.5], [1, 0.875, 0.625, 0.25, 0.75]]
        np.testing.assert_allclose(data.images[0].targets(), expected, atol=1e-12)
        assert data.images[1].targets().shape == (0, 5)
    assert found[1] is not None
    assert found[1].images[0].areas[0] == 500
    assert np.isnan(found[1].images[0].areas[1])


YOLO_ERRORS = [
    ("0 0.5 0.5 0.2", r"a\.txt:2: expected 5 columns \(class, centre x and y, width, height\), got 4"),
    ("0 0.5 0.5 0.2 0.2 0.9", r"a\.txt:2: expected 5 columns .* got 6"),
    ("2 0.5 0.5 0.2 0.2", r"a\.txt:2: class 2 is out of range: expected 0 to 1"),
    ("-1 0.5 0.5 0.2 0.2", r"a\.txt:2: class -1 is out of range"),
    ("0.5 0.5 0.5 0.2 0.2", r"a\.txt:2: class 0.5 is out of range"),
    ("0 0.5 0.5 -0.2 0.2", r"a\.txt:2: a box of negative size \(-0.2 x 0.2\)"),
    ("0 0.95 0.5 0.2 0.2", r"a\.txt:2: a box outside the image"),
    ("0 50 20 10 10", r"a\.txt:2: a box outside the image"),
    ("0 nan 0.5 0.2 0.2", r"a\.txt:2: not all numbers are finite"),
    ("cat 0.5 0.5 0.2 0.2", r"a\.txt:2: not numbers: cat"),
]


@pytest.mark.parametrize(("line", "message"), YOLO_ERRORS)
def test_wrong_lines_of_yolo(tmp_path: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = yolo(tmp_path, {"a": f"0 0.5 0.5 0.2 0.2\n{line}\n", "b": "", "c": "1 0.5 0.5 1 1\n"})
    with pytest.raises(InvalidArgumentError, match=message) as failure:
        read_yolo(path, "train")
    assert "--skip-bad" in str(failure.value)
    data = read_yolo(path, "train", skip_bad=True)
    assert data is not None
    assert [file.stem for file in data.files] == ["b", "c"]
    assert "a.txt:2" in capsys.readouterr().err


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    path = yolo(tmp_path, {"a": "5 0 0 1 1\n0 1\n", "b": "0 0.5 0.5 0.1 0.1\n", "c": "x\n"})
    (tmp_path / "images" / "train" / "d.png").write_bytes(b"no image")
    with pytest.raises(InvalidArgumentError) as failure:
        read_yolo(path, "train")
    for part in ("a.txt:1: class 5", "a.txt:2: expected 5", "c.txt:1: expected 5", "d.png: neither PNG nor JPEG"):
        assert part in str(failure.value)


def test_boxes_of_no_size_are_dropped_and_counted(tmp_path: Path) -> None:
    data = read_yolo(yolo(tmp_path / "y", {"a": "0 0.5 0.5 0 0.2\n1 0.5 0.5 0.2 0.2\n0 0 0 0 0\n"}), "train")
    assert data is not None
    assert (data.objects, data.empty_boxes) == (1, 2)
    assert read_coco(coco(tmp_path / "c", [{"category_id": 3, "bbox": [5, 5, 0, 3]}])).empty_boxes == 1


def test_lists_of_images_nested_folders_and_other_places(tmp_path: Path) -> None:
    path = yolo(tmp_path, {"deep/a": "0 0.5 0.5 0.1 0.1\n", "b": "\n  \n"})
    data = read_yolo(path, "val")
    assert data is not None
    assert [len(image.classes) for image in data.images] == [0, 1]
    (tmp_path / "list.txt").write_text("images/train/b.png\nimages/train/none.png\n\n")
    path.write_text("train: [list.txt]\nnames: {0: cat, 1: dog}\n")
    with pytest.raises(InvalidArgumentError, match=r"list\.txt:2: there is no image .*none\.png"):
        read_yolo(path, "train")
    assert read_yolo(path, "val") is None
    assert label_file(Path("/images/x/images/y/a.jpg")) == Path("/images/x/labels/y/a.txt")
    assert label_file(Path("/x/a.jpg")) == Path("/x/a.txt")


YAML_ERRORS = [
    ("train: images/train\n", "no description of data: expected train, val and names"),
    ("train: images/train\nnames: []\n", "no class names"),
    ("train: images/train\nnames: [a, a]\n", "classes of one name: a"),
    ("train: images/train\nnames: {0: a, 2: b}\n", "expected a name for each of 0 to 1"),
    ("train: images/train\nnames: [a, b]\nnc: 3\n", "nc is not the number of names: expected 2, got 3"),
    ("train: images/none\nnames: [a, b]\n", "no such folder or list of images"),
    ("train: [\n", "no YAML"),
]


@pytest.mark.parametrize(("text", "message"), YAML_ERRORS)
def test_wrong_descriptions(tmp_path: Path, text: str, message: str) -> None:
    path = yolo(tmp_path, {"a": ""})
    path.write_text(text)
    with pytest.raises(InvalidArgumentError, match=message):
        read_yolo(path, "train")


def test_one_class_and_a_thousand(tmp_path: Path) -> None:
    one = read_yolo(yolo(tmp_path / "1", {"a": "0 0.5 0.5 0.1 0.1\n"}, "[only]"), "train")
    assert one is not None
    assert one.classes == ["only"]
    names = json.dumps([f"class {index}" for index in range(1000)])
    many = read_yolo(yolo(tmp_path / "1000", {"a": "999 0.5 0.5 0.1 0.1\n"}, names), "train")
    assert many is not None
    assert many.images[0].classes.tolist() == [999]


COCO_ERRORS = [
    ({"category_id": 4, "bbox": [0, 0, 5, 5]}, "annotation 1: category 4 is none of the file's"),
    ({"category_id": 3, "bbox": [0, 0, 5]}, "annotation 1: bbox: expected 4 finite numbers"),
    ({"category_id": 3, "bbox": [0, 0, "5", 5]}, "annotation 1: bbox: expected 4 finite numbers"),
    ({"category_id": 3}, "annotation 1: bbox: expected 4 finite numbers"),
    ({"category_id": 3, "bbox": [70, 0, 20, 5]}, "annotation 1: a box outside the image"),
    ({"category_id": 3, "bbox": [0, 0, -5, 5]}, "annotation 1: a box of negative size"),
    ({"category_id": 3, "bbox": [0, 0, 5, 5], "image_id": 9}, "annotation 1: there is no image 9"),
]


@pytest.mark.parametrize(("row", "message"), COCO_ERRORS)
def test_wrong_annotations_of_coco(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = coco(tmp_path, [row, {"category_id": 7, "bbox": [1, 1, 5, 5], "image_id": 1}])
    with pytest.raises(InvalidArgumentError, match=message) as failure:
        read_coco(path)
    assert path.name in str(failure.value)
    assert 1 in [len(image.classes) for image in read_coco(path, skip_bad=True).images]


def test_other_faults_of_coco_files(tmp_path: Path) -> None:
    path = coco(tmp_path, [{"category_id": 7, "bbox": [1, 1, 5, 5], "iscrowd": 1}])
    data = read_coco(path)
    assert data.images[0].crowd.tolist() == [True]
    assert data.objects == 0
    (tmp_path / "val" / "1.png").unlink()
    with pytest.raises(InvalidArgumentError, match=r"image 1: there is no file .*1\.png"):
        read_coco(path)
    picture(tmp_path / "val" / "1.png", 50, 50)
    with pytest.raises(InvalidArgumentError, match=r"1\.png is 50 x 50, and the annotations are for 80 x 40"):
        read_coco(path)
    path.write_text("{")
    with pytest.raises(InvalidArgumentError, match="no JSON"):
        read_coco(path)
    path.write_text("[]")
    with pytest.raises(InvalidArgumentError, match="expected an object with the lists images, annotations, categories"):
        read_coco(path)


VOC_ERRORS = [
    (voc_object("cat", ("x", 1, 5, 5)), r"a\.xml:3: bndbox: expected numbers"),
    (voc_object("cat", (10, 1, 5, 5)), r"a\.xml:3: a box of negative size"),
    (voc_object("cat", (10, 1, 500, 5)), r"a\.xml:3: a box outside the image"),
    ("<object>\n", r"a\.xml:4: no XML: mismatched tag"),
    (voc_object("cat", (1, 1, 5, 5)) + " <object><name>dog</name></object>\n", r"a\.xml:6: bndbox"),
]


@pytest.mark.parametrize(("text", "message"), VOC_ERRORS)
def test_wrong_files_of_voc(tmp_path: Path, text: str, message: str) -> None:
    root = voc(tmp_path, {"a": text, "b": voc_object("cat", (1, 1, 9, 9), "<difficult>1</difficult>")})
    with pytest.raises(InvalidArgumentError, match=message):
        read_voc(root)
    data = read_voc(root, skip_bad=True)
    assert data is not None
    assert [file.stem for file in data.files] == ["b"]
    assert data.images[0].difficult.tolist() == [True]


def test_lists_classes_and_missing_images_of_voc(tmp_path: Path) -> None:
    root = voc(tmp_path, {"a": voc_object("cat", (1, 1, 9, 9)), "b": voc_object("dog", (1, 1, 9, 9))})
    with pytest.raises(InvalidArgumentError, match=r"b\.xml:3: class 'dog' is none of cat"):
        read_voc(root, classes=["cat"])
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("b 1\n")
    data = read_voc(root, "val")
    assert data is not None
    assert data.images[0].classes.tolist() == [1]  # of cat and dog, which occur in the folder
    assert read_voc(root, "train") is None
    (lists / "val.txt").write_text("b\nc\n")
    (root / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(InvalidArgumentError, match=r"b\.xml: there is no image b") as failure:
        read_voc(root, "val")
    assert "c.xml: there is no such file" in str(failure.value)
    bomb = '<!DOCTYPE a [<!ENTITY x "yyyy">]><annotation>&x;</annotation>'
    (root / "Annotations" / "b.xml").write_text(bomb)
    with pytest.raises(InvalidArgumentError, match=r"b\.xml:1: entities are not read"):
        read_voc(root, "val")


def test_the_kind_of_data_is_told_by_its_name(tmp_path: Path) -> None:
    path = yolo(tmp_path / "y", {"a": "1 0.5 0.5 0.1 0.1\n"})
    assert read_data(path).objects == 1
    with pytest.raises(InvalidArgumentError, match="other classes: expected x, y, got cat, dog"):
        read_data(path, ["x", "y"])
    with pytest.raises(InvalidArgumentError, match="no such part of the data: expected test"):
        read_data(path, part="test")
    file = coco(tmp_path / "c", [{"category_id": 7, "bbox": [1, 1, 5, 5]}])
    assert read_data(file, ["bird", "cat", "dog"]).images[0].classes.tolist() == [2]
    with pytest.raises(InvalidArgumentError, match="categories that are no class: dog"):
        read_data(file, ["cat"])
    with pytest.raises(InvalidArgumentError, match=r"not labelled images: expected data\.yaml"):
        read_data(tmp_path)
    with pytest.raises(InvalidArgumentError, match="no such file or folder"):
        read_data(tmp_path / "none")


def test_the_split_is_of_images(tmp_path: Path) -> None:
    data = read_yolo(yolo(tmp_path, {str(index): "0 0.5 0.5 0.1 0.1\n" for index in range(10)}), "train")
    assert data is not None
    train, held_out = split(data, 0.3, seed=1)
    assert (len(train), len(held_out)) == (7, 3)
    assert sorted(train.files + held_out.files) == sorted(data.files)
    with pytest.raises(InvalidArgumentError, match="expected between 0 and 1"):
        split(data, 1.0, seed=1)


def save_png(image: Image.Image, path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif.tobytes())


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_decoder(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"x{suffix}"
    save_png(Image.new("RGB", (30, 17)), path, orientation)
    decoded = ImageProcessor(resize="none")(path)["image_size"].tolist()
    assert list(read_size(path)) == decoded


def damaged(change: Callable[[bytearray], None], kind: str) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (30, 17)).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    change(data)
    return bytes(data)


def test_damaged_heads_are_errors_and_never_more(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for data in (b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xc0\0\x0b"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"neither PNG nor JPEG|JPEG file"):
            read_size(path)
    path.write_bytes(damaged(lambda data: struct.pack_into(">I", data, 16, 0), "png"))
    with pytest.raises(ValueError, match="it has no pixels"):
        read_size(path)
    chance = np.random.default_rng(0)
    for kind in ("png", "jpeg"):
        for _ in range(300):
            data = bytearray(damaged(lambda data: None, kind))
            for place in chance.integers(0, min(len(data), 300), 4):
                data[place] = chance.integers(256)
            path.write_bytes(data[: int(chance.integers(1, len(data)))])
            try:
                height, width = read_size(path)
            except ValueError:
                continue
            assert height > 0
            assert width > 0

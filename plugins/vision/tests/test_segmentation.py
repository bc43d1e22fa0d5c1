"""Training on images and masks: what is read and refused, augmentation, metrics, and the package in Python and C++."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_pipelines
from PIL import Image

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import InvalidArgumentError
from mambasdk.package import Manifest
from mambasdk.pipeline import load_pipeline
from mambasdk_vision.drawing.masks import blended
from mambasdk_vision.plugin import LIBRARY
from mambasdk_vision.segmentation.augmentation import SceneAugmentation
from mambasdk_vision.segmentation.data import (
    IGNORE,
    SegmentedImages,
    read_labels,
    read_pairs,
    readable_pairs,
    split_pairs,
)
from mambasdk_vision.segmentation.metrics import SegmentationScores, mask_confusion
from mambasdk_vision.segmentation.task import SegmentationTask

ENTRY = {"kind": "image", "size": [24, 32], "resize": "exact", "mean": [0.5] * 3, "std": [0.25] * 3}
SMALL = [
    *("--set", 'backbone_config={"dims":8,"depths":[1,1,1,1]}', "--set", "channels=8", "--set", "auxiliary_channels=8"),
    *("--set", "auxiliary_index=1", "--backbone", "vmamba-mini", "--threads", "1"),
]


def write_pair(root: Path, name: str, seed: int, part: str = "") -> None:
    """A dark picture with a bright square in it: class 1; the border of the mask is ignored."""
    chance = np.random.default_rng(seed)
    pixels = chance.integers(0, 60, (30, 40, 3), dtype=np.uint8)
    mask = np.zeros((30, 40), np.uint8)
    top, left = chance.integers(2, 14), chance.integers(2, 20)
    pixels[top : top + 14, left : left + 16] = chance.integers(180, 256, 3)
    mask[top : top + 14, left : left + 16] = 1
    mask[0] = IGNORE
    for folder in ("images", "masks"):
        (root / folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / "images" / part / f"{name}.{'png' if seed % 2 else 'jpg'}", quality=95)
    image = Image.fromarray(mask)
    if seed % 3 == 0:
        image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(root / "masks" / part / f"{name}.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty pairs."""
    for index in range(20):
        write_pair(tmp_path / "data", f"{index:02}", index)
    return tmp_path / "data"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_pairs_by_name_and_the_folders_of_ade20k(data: Path, tmp_path: Path) -> None:
    every, held_out = read_pairs(data)
    assert held_out is None
    assert [path.stem for path in every.images] == [path.stem for path in every.masks]
    train, rest = split_pairs(every, 0.25, seed=1)
    assert (len(train), len(rest)) == (15, 5)
    assert sorted(train.images + rest.images) == every.images
    assert split_pairs(every, 0.25, seed=1)[1].images == rest.images
    ade = tmp_path / "ade"
    write_pair(ade, "a", 0, "training")
    write_pair(ade, "b", 1, "training/deeper")
    write_pair(ade, "c", 2, "validation")
    (ade / "masks").rename(ade / "annotations")
    train, rest = read_pairs(ade)
    assert [path.name for path in train.images] == ["a.jpg", "b.png"]
    assert rest is not None
    assert [path.name for path in rest.masks] == ["c.png"]
    assert all(path.is_file() for part in (train, rest) for path in part.masks)
    (ade / "labels.txt").write_text("ground\n\nsquare\n")
    assert read_labels(ade) == ["ground", "square"]
    assert read_labels(data) is None


def test_folders_without_pairs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no folders of images and masks: expected images/ and masks/"):
        read_pairs(tmp_path)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    with pytest.raises(InvalidArgumentError, match="no PNG or JPEG file"):
        read_pairs(tmp_path)
    write_pair(tmp_path, "a", 0)
    with pytest.raises(InvalidArgumentError, match="expected two or more"):
        split_pairs(read_pairs(tmp_path)[0], 0.1, 0)
    write_pair(tmp_path, "a", 1)
    with pytest.raises(InvalidArgumentError, match=r"two images for the mask a\.png"):
        read_pairs(tmp_path)


def test_every_fault_is_named_before_training_or_left_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "masks" / "00.png").unlink()
    (data / "images" / "01.png").unlink()
    (data / "images" / "02.jpg").write_bytes(b"no image")
    Image.new("L", (39, 30)).save(data / "masks" / "03.png")
    Image.fromarray(np.full((30, 40), 7, np.uint8)).save(data / "masks" / "04.png")
    Image.new("RGB", (40, 30)).save(data / "masks" / "05.png")
    (data / "masks" / "06.png").write_bytes((data / "masks" / "06.png").read_bytes()[:60])
    part = SegmentedImages(read_pairs(data)[0], ENTRY, classes=2)
    with pytest.raises(InvalidArgumentError, match="7 of 20 images and masks cannot be read") as failure:
        readable_pairs([part], skip_bad=False)
    said = str(failure.value)
    for fault in (
        *("00.jpg: it has no mask: expected", "01.png: the mask has no image", "02.jpg: "),
        "03.png: the mask 03.png has another size than its image: expected 40 x 30, got 39 x 30",
        "04.jpg: the mask 04.png holds index 7: expected 0 to 1, of 2 classes, or 255 to ignore",
        *("its pixels are colours", "06.jpg: 06.png: ", "--skip-bad"),
    ):
        assert fault in said
    (kept,), classes = readable_pairs([part], skip_bad=True)
    assert (len(kept), classes) == (13, 2)
    assert "left out 7 of 20 images and masks" in capsys.readouterr().err
    assert all(path.stem not in {f"0{i}" for i in range(7)} for path in kept.data.images)
    code = main(["train", "upernet", "--data", str(data), "--out", str(data / "package"), "--labels", "a", "b", *SMALL])
    assert code == 2
    assert "holds index 7" in capsys.readouterr().err
    assert not (data / "package").exists()


def test_masks_of_the_models_size_are_the_pixels_under_its_centres(data: Path) -> None:
    part = SegmentedImages(read_pairs(data)[0], {**ENTRY, "size": [15, 20]})
    images, masks = part.take(np.array([3, 0]))
    assert images.shape == (2, 15, 20, 3)
    original = np.asarray(Image.open(data / "masks" / "03.png"))
    assert np.array_equal(masks[0], original[1::2, 1::2])
    assert np.array_equal(part.mask(3), original)
    small = SegmentedImages(read_pairs(data)[0], {**ENTRY, "size": [15, 20]}, budget=0)
    assert np.array_equal(small.take(np.array([3, 0]))[1], masks)
    cut = SegmentedImages(read_pairs(data)[0], {"size": [20, 20], "resize": "shortest", "crop_pct": 1.0})
    window = cut.take(np.array([3]))[1][0]
    assert np.array_equal(np.unique(window), np.unique(original[:, 6:34]))


def test_index_zero_can_be_no_class(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 1)
    mask = np.array([[0, 1, 2], [255, 3, 0]], np.uint8).repeat(15, 0)[:30].repeat(14, 1)[:, :40]
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    part = SegmentedImages(read_pairs(tmp_path)[0], ENTRY, classes=3, reduce_zero_label=True)
    found = part.mask(0)
    assert np.array_equal(found, np.where((mask == 0) | (mask == 255), 255, mask - 1))
    assert part.check(0) == 2
    with pytest.raises(InvalidArgumentError, match="holds index 3: expected 1 to 2, of 2 classes"):
        SegmentedImages(read_pairs(tmp_path)[0], ENTRY, classes=2, reduce_zero_label=True).check(0)


def test_augmentation_moves_image_and_mask_together_and_depends_on_the_step_alone() -> None:
    chance = np.random.default_rng(0)
    masks = torch.from_numpy(chance.integers(0, 3, (40, 6, 8))).repeat_interleave(4, 1).repeat_interleave(4, 2)
    images = (masks[:, None] + 1.0).repeat(1, 3, 1, 1)  # 0 is outside
    both = SceneAugmentation((0.5, 2.0))
    moved, labels = both(images, masks, 1, 5)
    assert torch.equal(moved, both(images, masks, 1, 5)[0])
    assert not torch.equal(moved, both(images, masks, 1, 6)[0])
    assert not torch.equal(moved, both(images, masks, 1, 5, rank=1)[0])
    whole = (moved - moved.round()).abs().amax(1) < 1e-4
    inside = whole & (labels != IGNORE)
    assert inside.float().mean() > 0.5
    assert torch.equal(moved[:, 0].round().long()[inside] - 1, labels[inside])
    outside = (labels == IGNORE).flatten(1).float().mean(1)
    assert 0.25 < (outside == 0).float().mean() < 0.75  # enlarged
    assert outside.max() < 0.76
    plain, same = SceneAugmentation((1, 1), flip=False)(images, masks, 1, 5)
    torch.testing.assert_close(plain, images, atol=1e-5, rtol=0)
    assert torch.equal(same, masks)
    flipped = SceneAugmentation((1, 1))(images, masks, 1, 5)[1]
    turned = [not torch.equal(new, old) for new, old in zip(flipped, masks, strict=True)]
    assert 8 < sum(turned) < 32
    assert all(torch.equal(new, old.flip(1) if t else old) for new, old, t in zip(flipped, masks, turned, strict=True))
    with pytest.raises(InvalidArgumentError, match="bad scale"):
        SceneAugmentation((2.0, 1.0))


def test_scores_of_hand_made_maps() -> None:
    mask = np.array([[0, 0, 1, 1], [0, 2, 2, 255]])
    found = np.array([[0, 1, 1, 1], [0, 2, 0, 3]])
    matrix = mask_confusion(mask, found, 4)
    assert matrix.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    scores = SegmentationScores.of(matrix)
    assert scores.iou[:3].tolist() == pytest.approx([2 / 4, 2 / 3, 1 / 2])
    assert math.isnan(scores.iou[3])  # neither there nor answered
    assert scores.metrics() == pytest.approx(
        {"mIoU": (2 / 4 + 2 / 3 + 1 / 2) / 3, "pixel_accuracy": 5 / 7, "mean_accuracy": (2 / 3 + 1 + 1 / 2) / 3}
    )
    assert scores.rows("abcd")[3] == {"class": "d", "iou": None, "accuracy": None, "pixels": 0}
    wrong = SegmentationScores.of(mask_confusion(np.zeros((2, 2), int), np.ones((2, 2), int), 3))
    assert wrong.mean_iou == 0  # an answered class that is not there counts
    none = SegmentationScores.of(mask_confusion(np.full((2, 2), 255), np.zeros((2, 2), int), 3))
    assert all(math.isnan(value) for value in none.metrics().values())


class Fixed(torch.nn.Module):
    """Logits of a plan, whatever the image."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(image), *self.logits.shape[1:])

    def training_logits(self, image: torch.Tensor) -> list[tuple[float, torch.Tensor]]:
        return [(1.0, self(image)), (0.4, 2 * self(image))]


def test_the_loss_is_the_mean_over_pixels_with_a_class(data: Path) -> None:
    part = SegmentedImages(read_pairs(data)[0], {**ENTRY, "size": [30, 40]}, classes=2)
    logits = torch.randn(1, 2, 7, 10, generator=torch.Generator().manual_seed(0))
    task = SegmentationTask(
        Fixed(logits), part, part, ["a", "b"], ENTRY, batch=20, augmentation=SceneAugmentation((1, 1), flip=False)
    )
    masks = torch.from_numpy(np.stack([part.mask(i) for i in range(20)])).long()
    size = (30, 40)

    def entropy(factor: float) -> float:
        full = torch.nn.functional.interpolate(factor * logits, size=size, mode="bilinear", align_corners=False)
        chosen = -full.log_softmax(1).expand(20, -1, -1, -1).gather(1, masks.clamp(max=1)[:, None])[:, 0]
        return float(chosen[masks != IGNORE].mean())

    loss, count = task.loss(0)
    assert count == 20
    assert float(loss.detach()) == pytest.approx(entropy(1) + 0.4 * entropy(2), rel=1e-5)
    with torch.no_grad():
        metrics = task.evaluate()
    assert metrics["loss"] == pytest.approx(entropy(1), rel=1e-5)
    full = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False).argmax(1)[0]
    matrix = sum(mask_confusion(mask, full, 2) for mask in masks)
    assert np.abs(task.matrix - matrix).sum() <= 4  # pixels where both classes are equal but for rounding
    assert metrics["IoU a"] == pytest.approx(task.matrix[0, 0] / (task.matrix[0].sum() + task.matrix[1, 0]))


def test_training_learns_and_the_package_answers_in_python_and_cpp(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package"
    run = ["--steps", "60", "--batch", "4", "--lr", "0.01", "--held-out", "0.2", "--size", "24", "32", "--best"]
    curve = ["--curve", str(tmp_path / "curve.png"), "--labels", "ground", "square", "--scale", "0.8", "1.2"]
    report = call(capsys, "train", "upernet", "--data", str(data), "--out", str(package), *run, *curve, *SMALL)
    assert report["classes"] == ["ground", "square"]
    assert (report["train_images"], report["held_out_images"]) == (16, 4)
    assert report["mIoU"] > 0.75
    assert report["engine"] == "native"
    assert set(report["held_out"]) >= {"mIoU", "pixel_accuracy", "mean_accuracy", "loss", "IoU ground", "IoU square"}
    assert Image.open(tmp_path / "curve.png").format == "PNG"
    assert mambasdk.verify(package).passed

    scores = call(capsys, "evaluate", str(package), "--data", str(data), "--batch", "3", "--plot", str(tmp_path / "e"))
    pipeline = load_pipeline(package)
    matrix = np.zeros((2, 2), int)
    for image in sorted((data / "images").iterdir()):
        found = pipeline.run({"image": image.read_bytes()})["class_map"]
        matrix += mask_confusion(np.asarray(Image.open(data / "masks" / f"{image.stem}.png")), found, 2)
    assert np.abs(np.array(scores["confusion_matrix"]) - matrix).sum() <= 0.001 * matrix.sum()
    assert scores["data"] == {"images": 20, "pixels": int(matrix.sum())}
    assert scores["metrics"]["mIoU"] == pytest.approx(SegmentationScores.of(matrix).mean_iou, abs=1e-3)
    assert [row["class"] for row in scores["classes"]] == ["ground", "square"]
    assert Image.open(scores["pictures"]["confusion_matrix"]).format == "PNG"

    files = [data / "images" / "02.jpg", data / "images" / "03.png"]
    plots = ["--plot", str(tmp_path / "plots"), "--option", "runs=true"]
    results = call(capsys, "predict", str(package), *map(str, files), *plots)["results"]
    for file, result in zip(files, results, strict=True):
        assert {row["label"] for row in result["classes"]} == {"ground", "square"}
        flat = np.concatenate([np.full(length, index) for index, length in result["runs"]])
        assert np.array_equal(flat.reshape(30, 40), pipeline.run({"image": file.read_bytes()})["class_map"])
        assert Image.open(result["plot"]).size[0] == 1320
        assert len(np.unique(np.asarray(Image.open(result["plot"]).convert("RGB")).reshape(-1, 3), axis=0)) > 100
    without = call(capsys, "predict", str(package), *map(str, files))["results"]
    said = [{key: value for key, value in result.items() if key != "file"} for result in without]
    assert toy_pipelines.run_cpp(package, "image", files, LIBRARY) == said

    # Going on with the same labels keeps the last layer, others get one of their own.
    again = tmp_path / "again"
    more = ["--steps", "1", "--batch", "4", "--lr", "1e-9", "--threads", "1", "--engine", "torch"]
    report = call(capsys, "train", str(package), "--data", str(data), "--out", str(again), *more)
    assert report["mIoU"] > 0.6
    other = ["--labels", "a", "b", "c", "--size", "16"]
    call(capsys, "train", str(again), "--data", str(data), "--out", str(tmp_path / "third"), *more, *other)
    manifest = Manifest.read(tmp_path / "third")
    assert manifest.head_options == {"labels": ["a", "b", "c"]}
    assert manifest.processors["image"]["size"] == [16, 16]
    assert manifest.processors["image"]["resize"] == "exact"


def test_what_cannot_be_trained_is_said(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        out = ["--data", str(data), "--out", str(tmp_path / "package"), "--steps", "1"]
        assert main(["train", "upernet", *out, *SMALL, *arguments]) == 2
        return capsys.readouterr().err

    assert "one image a step: expected 2 or more" in refused("--batch", "1")
    assert "bad --size" in refused("--size", "1", "2", "3")
    assert "no model named 'vmamba-none'" in refused("--backbone", "vmamba-none")
    for file in (data / "masks").iterdir():
        mask = np.asarray(Image.open(file))
        Image.fromarray(np.where(mask == 1, 255, 0).astype(np.uint8)).save(file)
    assert "1 class in the masks: expected indices 0, 1, …; 255 is ignored; write 1, not 255" in refused()


def test_a_mask_is_mixed_into_the_picture() -> None:
    pixels = np.full((1, 3, 3), 0.5, np.float32)
    palette = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)
    mixed = blended(pixels, np.array([[0, 1, 255]], np.uint8), palette)
    np.testing.assert_allclose(mixed[0], [[0.8, 0.2, 0.2], [0.2, 0.8, 0.2], [0.5, 0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize(("size", "code"), [(["--images", "12", "--held-out", "4", "--steps", "4"], 1)])
def test_the_shapes_example_runs_and_says_where_the_goal_is_missed(tmp_path: Path, size: list[str], code: int) -> None:
    done = _shapes(tmp_path, *size)
    assert done.returncode == code, done.stderr
    assert "is not above 0.9" in done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["IoU"]) == {"ground", "circle", "square", "triangle"}
    assert Image.open(tmp_path / "shapes.png").size == (1320, 552)
    assert Manifest.read(tmp_path / "package").engine["name"] == "native"


@pytest.mark.slow
def test_the_shapes_example_reaches_its_goal(tmp_path: Path) -> None:
    done = _shapes(tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["mIoU"] > 0.9


def _shapes(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parents[3] / "examples" / "segmentation_shapes" / "shapes.py"
    command = [sys.executable, str(script), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)

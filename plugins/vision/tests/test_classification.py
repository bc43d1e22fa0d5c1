"""Training from folders: what is read, how it is split and augmented, and the package that every engine runs."""

from __future__ import annotations

import json
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
from mambasdk.models import identity
from mambasdk.package import Manifest
from mambasdk_vision.classification.augmentation import Augmentation
from mambasdk_vision.classification.folder import Pixels, read_folders, readable_pixels, split
from mambasdk_vision.plugin import LIBRARY

SIZES = {
    "vim": ["patch_size=4", "embed_dim=32", "depth=2", "d_state=4"],
    "vmamba": ["dims=16", "depths=[1,1]"],
}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two classes that differ in the colour of a square somewhere on noise, 24 images each, PNG and JPEG."""
    chance = np.random.default_rng(0)
    for label, colour in (("red", (255, 0, 0)), ("green", (0, 255, 0))):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for index in range(24):
            pixels = chance.integers(0, 90, (20, 26, 3), dtype=np.uint8)
            top, left = chance.integers(0, 10), chance.integers(0, 14)
            pixels[top : top + 8, left : left + 8] = colour
            Image.fromarray(pixels).save(folder / f"{index}.{'png' if index % 2 else 'jpg'}")
    return tmp_path / "data"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def settings(family: str) -> list[str]:
    return [part for setting in SIZES[family] for part in ("--set", setting)]


def test_folders_are_classes_and_the_split_holds_out_of_each(folders: Path) -> None:
    data = read_folders(folders)
    assert data.classes == ["green", "red"]
    assert all(path.parent.name == data.classes[label] for path, label in zip(data.files, data.labels, strict=True))
    train, held_out = split(data, 0.25, seed=3)
    assert np.bincount(held_out.labels).tolist() == [6, 6]
    assert sorted(train.files + held_out.files) == sorted(data.files)
    assert split(data, 0.25, seed=3)[1].files == held_out.files
    assert split(data, 0.25, seed=4)[1].files != held_out.files


def test_wrong_folders_are_named(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"none: no such folder: expected a folder of class folders"):
        read_folders(tmp_path / "none")
    with pytest.raises(InvalidArgumentError, match="0 class folders: expected two or more"):
        read_folders(folders / "red")
    with pytest.raises(InvalidArgumentError, match="folders that are no class: red"):
        read_folders(folders, ["green", "blue"])
    (folders / "blue").mkdir()
    with pytest.raises(InvalidArgumentError, match="blue: a class without a PNG or JPEG file"):
        read_folders(folders)
    (folders / "blue" / "1.png").write_bytes(b"no image")
    data = read_folders(folders)
    with pytest.raises(InvalidArgumentError, match="class blue has one image"):
        split(data, 0.2, seed=0)
    with pytest.raises(InvalidArgumentError, match=r"blue/1\.png"):
        Pixels(data, {"size": 8}).take(np.array([0]))


def test_unreadable_images_are_all_named_before_training_or_left_out(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = [folders / "red" / "1.png", folders / "green" / "2.jpg", folders / "green" / "3.png"]
    damaged[0].write_bytes(b"no image")
    for path in damaged[1:]:
        path.write_bytes(path.read_bytes()[:-200])  # cut off
    parts = [Pixels(part, {"size": 8}) for part in split(read_folders(folders), 0.5, seed=0)]
    with pytest.raises(InvalidArgumentError, match="3 of 48 images cannot be read") as failure:
        readable_pixels(parts, skip_bad=False)
    assert all(str(path) in str(failure.value) for path in damaged)
    assert "--skip-bad" in str(failure.value)
    kept = readable_pixels(parts, skip_bad=True)
    left = [path for part in kept for path in part.data.files]
    assert set(left) == {path for part in parts for path in part.data.files} - set(damaged)
    assert sum(len(part.take(np.arange(len(part.data)))) for part in kept) == 45
    shown = capsys.readouterr().err
    assert "left out 3 of 48 images" in shown
    assert all(str(path) in shown for path in damaged)
    for path in (folders / "red").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InvalidArgumentError, match="no image of class red can be read"):
        readable_pixels([Pixels(read_folders(folders), {"size": 8})], skip_bad=True)


def test_pixels_are_the_processors_whether_kept_or_not(folders: Path) -> None:
    data = read_folders(folders)
    entry = {"kind": "image", "size": [16, 12], "mean": [0.5] * 3, "std": [0.2] * 3}
    every = np.arange(len(data))
    kept, not_kept = Pixels(data, entry), Pixels(data, entry, budget=0)
    first = kept.take(every)
    assert first.shape == (48, 16, 12, 3)
    assert np.array_equal(first, not_kept.take(every))
    assert np.array_equal(first[::-1], kept.take(every[::-1]))


def test_augmentation_flips_and_shifts_and_depends_on_the_step_alone() -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 16, 8, 3), dtype=np.uint8)
    assert np.array_equal(Augmentation(flip=False, shift=0)(images, 1, 1), images)
    flipped = Augmentation(flip=True, shift=0)(images, 1, 1)
    turned = [not np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)]
    assert 60 < sum(turned) < 140
    assert all(np.array_equal(a[:, ::-1] if t else a, b) for a, b, t in zip(flipped, images, turned, strict=True))
    shifted = Augmentation(flip=False, shift=0.25)(images, 1, 1)
    inside = [
        any(
            np.array_equal(new[4:12, 2:6], old[4 + down : 12 + down, 2 + side : 6 + side])
            for down in range(-4, 5)
            for side in range(-2, 3)
        )
        for new, old in zip(shifted, images, strict=True)
    ]
    assert all(inside)
    both = Augmentation()
    assert np.array_equal(both(images, 1, 2), both(images, 1, 2))
    assert not np.array_equal(both(images, 1, 2), both(images, 1, 3))
    with pytest.raises(InvalidArgumentError, match="bad shift"):
        Augmentation(shift=1.0)


def test_training_learns_and_the_package_answers_in_python_and_cpp(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package"
    data = ["--data", str(folders), "--held-out", "0.25", "--size", "16", "--flip"]
    run = ["--steps", "60", "--batch", "16", "--lr", "0.004", "--threads", "1", "--curve", str(tmp_path / "curve.png")]
    report = call(capsys, "train", "vim", "--out", str(package), *data, *run, *settings("vim"))
    assert report["classes"] == ["green", "red"]
    assert (report["train_images"], report["held_out_images"]) == (36, 12)
    assert report["accuracy"] >= 11 / 12
    assert report["engine"] == "native"
    assert Image.open(tmp_path / "curve.png").size == (960, 540)
    assert mambasdk.verify(package).passed

    files = [folders / "red" / "0.jpg", folders / "green" / "1.png"]
    plots = tmp_path / "plots"
    results = call(capsys, "predict", str(package), *map(str, files), "--plot", str(plots))["results"]
    assert [result["labels"][0]["label"] for result in results] == ["red", "green"]
    assert all(len(result["labels"]) == 2 for result in results)
    for result in results:
        picture = np.asarray(Image.open(result["plot"]).convert("RGB")).astype(int)
        assert picture.shape[1] == 1080
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100  # the image and its bars
    without = [{key: value for key, value in result.items() if key not in ("plot", "file")} for result in results]
    assert toy_pipelines.run_cpp(package, "image", files, LIBRARY) == without

    # Going on: the same labels keep the last layer, others get one of their own.
    again = tmp_path / "again"
    report = call(
        capsys, "train", str(package), "--data", str(folders), "--out", str(again), "--steps", "1", "--lr", "1e-9"
    )
    assert report["accuracy"] > 0.8
    (folders / "blue").mkdir()
    for index in range(4):
        Image.new("RGB", (16, 16), (0, 0, 255)).save(folders / "blue" / f"{index}.png")
    third = tmp_path / "third"
    call(capsys, "train", str(again), "--data", str(folders), "--out", str(third), "--size", "24", "--steps", "1")
    manifest = Manifest.read(third)
    assert manifest.head_options == {"labels": ["blue", "green", "red"], "top_k": 3}
    assert manifest.processors["image"]["size"] == [24, 24]
    assert identity(mambasdk.load(third)).config["num_classes"] == 3


def test_vmamba_trains_on_any_size(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "package"
    run = ["--steps", "60", "--batch", "16", "--lr", "0.004", "--threads", "1", "--engine", "torch"]
    report = call(
        capsys,
        *("train", "vmamba", "--data", str(folders), "--out", str(package), "--size", "15", "21"),
        *run,
        *settings("vmamba"),
    )
    assert report["accuracy"] >= 11 / 12 - 0.2
    assert Manifest.read(package).processors["image"]["size"] == [15, 21]
    model: Any = mambasdk.load(package)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 40, 9)).shape == (1, 2)


def test_evaluate_counts_what_the_model_says(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--steps", "4", "--batch", "4", "--size", "16", *settings("vim")]
    call(capsys, "train", "vim", "--data", str(folders), "--out", str(tmp_path / "package"), *run)
    plots = ["--plot", str(tmp_path / "plots"), "--batch", "7"]
    report = call(capsys, "evaluate", str(tmp_path / "package"), "--data", str(folders), *plots)
    model: Any = mambasdk.load(tmp_path / "package")
    image = mambasdk.package.load_processors(tmp_path / "package")["image"]
    data = read_folders(folders)
    with torch.no_grad():
        found = [int(model(torch.from_numpy(image(file)["image"])).argmax()) for file in data.files]
    matrix = np.zeros((2, 2), int)
    np.add.at(matrix, (data.labels, found), 1)
    assert report["confusion_matrix"] == matrix.tolist()
    assert report["metrics"]["accuracy"] == pytest.approx(np.trace(matrix) / 48)
    assert [row["support"] for row in report["classes"]] == [24, 24]
    assert Image.open(report["pictures"]["confusion_matrix"]).format == "PNG"
    assert main(["evaluate", str(tmp_path / "package"), "--data", str(folders)]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_a_classifier_generates_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    mambasdk.save_package(
        mambasdk.create_model("vim", img_size=16, patch_size=8, depth=1, embed_dim=16, num_classes=3),
        tmp_path / "package",
    )
    assert main(["generate", str(tmp_path / "package")]) == 2
    assert "head image_classification does not generate; `mambasdk predict PACKAGE FILE`" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vim", "efficientvmamba"])
def test_the_digits_example_beats_its_baseline(model: str, tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "examples" / "vision_digits" / "digits.py"
    done = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path), "--model", model],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result[model] >= 0.97
    assert result[model] > result["logistic regression"]
    assert Image.open(tmp_path / "digits.png").size == (1320, 624)

"""Top-down pose from annotations to the command line and C++: what is read, how crops change, what a package says."""

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
from PIL import Image, ImageDraw

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import import_checkpoint
from mambasdk.package import Manifest
from mambasdk.pipeline import load_pipeline
from mambasdk_vision.plugin import LIBRARY
from mambasdk_vision.pose.augmentation import CropAugmentation, undone
from mambasdk_vision.pose.coco import read_coco, split
from mambasdk_vision.pose.crops import PersonCrops

NAMES = ["left_hand", "right_hand", "top_head"]
EXAMPLE = Path(__file__).parents[3] / "examples" / "pose_stick_figures" / "stick_figures.py"
SMALL = '{"channels": 8, "stem_channels": 8, "stage1_channels": 4}'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """16 images of a person who is a bright triangle: its top, and the left corner on our right. Some have two."""
    chance = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    images: list[Any] = []
    annotations: list[Any] = []
    for index in range(16):
        picture = Image.new("RGB", (80, 60), (20, 30, 40))
        for place in range(1 + index % 2):
            x, y = 10 + 40 * place + chance.uniform(0, 4), chance.uniform(8, 14)
            width, height = chance.uniform(16, 24), chance.uniform(26, 36)
            corners = [(x + width, y + height), (x, y + height), (x + width / 2, y)]
            ImageDraw.Draw(picture).polygon(corners, fill=(230, 220, 90))
            row = {"id": len(annotations), "image_id": 100 + index, "category_id": 3, "iscrowd": 0}
            row |= {"bbox": [x, y, width, height], "area": width * height / 2, "num_keypoints": 3}
            row |= {"keypoints": [value for corner in corners for value in (*corner, 2)]}
            annotations.append(row)
        name = f"{index}.{'jpg' if index % 3 else 'png'}"
        picture.save(folder / name)
        images.append({"id": 100 + index, "file_name": name, "width": 80, "height": 60})
    category = {"id": 3, "name": "person", "keypoints": NAMES, "skeleton": [[1, 3], [2, 3]]}
    write(tmp_path, {"images": images, "annotations": annotations, "categories": [category]})
    return tmp_path


def write(folder: Path, content: Any) -> None:
    (folder / "people.json").write_text(json.dumps(content))


def read(folder: Path) -> Any:
    return json.loads((folder / "people.json").read_text())


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_annotations_are_people_of_images(data: Path) -> None:
    found = read_coco(data / "images", data / "people.json")
    assert (len(found), len(found.files)) == (24, 16)
    assert found.keypoint_set.names == tuple(NAMES)
    assert found.keypoint_set.skeleton == ((0, 2), (1, 2))
    assert found.keypoint_set.flip_pairs == ((0, 1),)
    row = read(data)["annotations"][1]
    x, y, width, height = row["bbox"]
    np.testing.assert_allclose(found.boxes[1], [x, y, x + width, y + height])
    np.testing.assert_allclose(found.keypoints[1].ravel(), row["keypoints"])
    assert found.files[found.image[1]].name == "1.jpg"
    train, rest = split(found, 0.25, seed=1)
    assert len(rest.files) == 4
    assert len(train) + len(rest) == 24
    assert not set(train.files) & set(rest.files)
    assert split(found, 0.25, seed=1)[1].files == rest.files != split(found, 0.25, seed=2)[1].files


def test_every_bad_annotation_is_named_or_left_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = read(data)
    rows = content["annotations"]
    rows[2]["keypoints"] = rows[2]["keypoints"][:-1]
    rows[5]["bbox"] = [70, 10, 30, 20]
    rows[6]["bbox"] = [10, 10, 0, 20]
    rows[7]["image_id"] = 7
    rows[8]["keypoints"][2] = 3
    rows[10]["keypoints"][0] = None
    write(data, content)
    (data / "images" / "8.jpg").unlink()  # of annotation 12
    with pytest.raises(InvalidArgumentError) as failure:
        read_coco(data / "images", data / "people.json")
    text = str(failure.value)
    for line in (
        "7 of 24 annotations cannot be used",
        "annotation 2: keypoints (3 of x, y, v): expected 9 numbers, got 8",
        "annotation 5: bbox 70, 10, 30, 20 is not within its image of 80 x 60",
        "annotation 6: bbox 10, 10, 0, 20 is empty",
        "annotation 7: there is no image 7",
        "annotation 8: keypoints: the visibility of each is 0, 1 or 2",
        "annotation 10: keypoints (3 of x, y, v): not all of them are finite numbers",
        "annotation 12: its image is missing",
        "--skip-bad",
    ):
        assert line in text
    assert len(read_coco(data / "images", data / "people.json", skip_bad=True)) == 17
    assert "left out 7 of 24 annotations that cannot be used" in capsys.readouterr().err


def test_images_that_cannot_be_read_are_named_before_training(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "images" / "4.jpg").write_bytes(b"no image")
    (data / "images" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = read_coco(data / "images", data / "people.json")
    entry = {"kind": "person_crop", "size": [32, 24]}
    with pytest.raises(InvalidArgumentError, match="2 of 16 images cannot be read") as failure:
        PersonCrops(found, entry)
    assert "4.jpg" in str(failure.value)
    assert "3.png" in str(failure.value)
    crops = PersonCrops(found, entry, skip_bad=True)
    assert "left out 2 of 16 images" in capsys.readouterr().err
    assert len(crops) == 24 - 3
    assert crops.take(np.arange(len(crops)))["image"].shape == (21, 3, 32, 24)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": []}, "0 categories with keypoints"),
        ({"categories": None}, "no COCO annotations"),
        ({"categories": [{"id": 3, "keypoints": ["a", "a"]}]}, "expected distinct names"),
        ({"categories": [{"id": 3, "keypoints": NAMES, "skeleton": [[0, 1]]}]}, "bad skeleton"),
        ({"annotations": []}, "no person with keypoints"),
    ],
    ids=str,
)
def test_files_of_another_format_are_refused(data: Path, change: dict[str, Any], message: str) -> None:
    write(data, {**read(data), **change})
    with pytest.raises(InvalidArgumentError, match=message):
        read_coco(data / "images", data / "people.json")


@pytest.mark.parametrize("form", [{}, {"half_body": 1.0}, {"flip": False, "rotation": 180.0, "scale": 0.5}], ids=str)
def test_augmented_keypoints_stay_on_what_they_mark(data: Path, form: dict[str, Any]) -> None:
    """Corners of a triangle are where it ends; the left one keeps being the one on the right of the image."""
    found = read_coco(data / "images", data / "people.json")
    crops = PersonCrops(found, {"kind": "person_crop", "size": [64, 48]})
    augmentation = CropAugmentation(**form)
    every = np.arange(len(crops))
    images, keypoints = crops.augmented(every, augmentation, seed=1, step=5)
    again, _ = crops.augmented(every, augmentation, seed=1, step=5)
    other, _ = crops.augmented(every, augmentation, seed=1, step=6)
    assert np.array_equal(images, again)
    assert not np.array_equal(images, other)
    for image, points in zip(images, keypoints, strict=True):
        middle = points[:, :2].mean(0)
        inner = np.rint(points[:, :2] + 0.25 * (middle - points[:, :2])).astype(int)
        outer = np.rint(points[:, :2] - 0.35 * (middle - points[:, :2])).astype(int)
        for place, bright in [(p, True) for p in inner] + [(p, False) for p in outer]:
            if (place >= 0).all() and place[0] < 48 and place[1] < 64:
                assert (image[0, place[1], place[0]] > 0.5) == bright
        if "rotation" not in form:
            assert points[0, 0] > points[1, 0]


def test_mirrored_crops_are_the_mirror_image(data: Path) -> None:
    found = read_coco(data / "images", data / "people.json")
    crops = PersonCrops(found, {"kind": "person_crop", "size": [32, 24]})
    still = CropAugmentation(flip=False, scale=0, rotation=0, shift=0)
    flips = CropAugmentation(flip=True, scale=0, rotation=0, shift=0)
    every = np.arange(len(crops))
    plain, points = crops.augmented(every, still, 0, 0)
    mirrored, turned = crops.augmented(every, flips, 0, 0)
    np.testing.assert_allclose(plain, crops.take(every)["image"], atol=1e-5)
    changed = 0
    for a, b, p, q in zip(plain, mirrored, points, turned, strict=True):
        if np.allclose(a, b, atol=1e-4):
            np.testing.assert_allclose(p, q, atol=1e-9)
            continue
        changed += 1
        np.testing.assert_allclose(a[:, :, ::-1], b, atol=1e-4)
        np.testing.assert_allclose(np.c_[23 - p[[1, 0, 2], 0], p[[1, 0, 2], 1:]], q, atol=1e-9)
    assert 6 <= changed <= 18
    maps, _ = flips(points, (32, 24), [], 0, 0)
    assert np.allclose(undone(maps, undone(maps, points[..., :2])), points[..., :2])  # a mirror undoes itself
    with pytest.raises(InvalidArgumentError, match="bad scale"):
        CropAugmentation(scale=1.0)


def test_train_evaluate_predict_and_run_in_cpp(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "package"
    people = ["--data", str(data / "images"), "--annotations", str(data / "people.json")]
    run = ["--steps", "3", "--batch", "4", "--held-out", "0.25", "--threads", "1", "--size", "48", "32"]
    report = call(
        capsys,
        *("train", "heatmap_pose", "--backbone", "hrvmamba-mini", "--set", f"backbone_config={SMALL}", *people),
        *("--out", str(package), "--curve", str(tmp_path / "curve.png"), *run),
    )
    assert report["keypoints"] == NAMES
    assert report["engine"] == "native"
    assert report["train_people"] + report["held_out_people"] == 24
    assert 0 <= report["AP"] <= report["AP50"] <= 1
    assert mambasdk.verify(package).passed
    manifest = Manifest.read(package)
    assert manifest.head_options == {"names": NAMES, "skeleton": [[0, 2], [1, 2]], "flip_pairs": [[0, 1]]}
    assert manifest.processors["image"]["size"] == [48, 32]

    evaluated = call(capsys, "evaluate", str(package), *people, "--batch", "5")
    found = read_coco(data / "images", data / "people.json")
    pipeline = load_pipeline(package)
    hits = 0
    for index, file in enumerate(found.files):
        own = found.image == index
        given = {"image": file.read_bytes(), "image.boxes": found.boxes[own].astype(np.float32)}
        keypoints = pipeline.run(given, {"flip_test": True})["keypoints"]
        sides = (found.boxes[own, 2:] - found.boxes[own, :2]).max(1)
        distance = np.linalg.norm(keypoints[..., :2] - found.keypoints[own][..., :2], axis=2)
        hits += int((distance <= 0.1 * sides[:, None]).sum())
    assert evaluated["metrics"]["PCK"] == pytest.approx(hits / 72, abs=1.5 / 72)  # one tie of equal pixels
    assert [row["annotated"] for row in evaluated["keypoints"]] == [24, 24, 24]
    assert evaluated["data"] == {"images": 16, "people": 24}

    files = [data / "images" / "0.png", data / "images" / "1.jpg"]
    plots = tmp_path / "plots"
    results = call(capsys, "predict", str(package), *map(str, files), "--plot", str(plots))["results"]
    for file, result in zip(files, results, strict=True):
        assert result["skeleton"] == [[0, 2], [1, 2]]
        assert result["people"][0]["box"] == [0, 0, 80, 60]
        assert len(np.unique(np.asarray(Image.open(result["plot"]).convert("RGB")).reshape(-1, 3), axis=0)) > 50
        assert Path(result["plot"]).stem == file.stem
    without = [{key: value for key, value in result.items() if key not in ("plot", "file")} for result in results]
    assert toy_pipelines.run_cpp(package, "image", files, LIBRARY) == without
    assert main(["predict", str(package), str(files[0]), "--option", "keypoint_threshold=-1"]) == 0
    assert "names: ['left_hand'" in capsys.readouterr().out

    # Going on: other keypoints are refused, another size keeps the weights.
    again = ["train", str(package), *people, "--out", str(tmp_path / "again"), "--steps", "1"]
    report = call(capsys, *again, "--size", "64", "48", "--batch", "4")
    assert Manifest.read(tmp_path / "again").processors["image"]["size"] == [64, 48]
    content = read(data)
    content["categories"][0]["keypoints"] = ["left_foot", "right_foot", "top_head"]
    write(data, content)
    assert main([*again, "--overwrite", "--restart"]) == 2
    assert "the package learnt something else: expected left_foot" in capsys.readouterr().err


def test_pose_options_of_a_pipeline(data: Path, tmp_path: Path) -> None:
    """A package without options names nothing; nobody in the image is no error, and the model is not run."""
    torch.manual_seed(0)
    model = mambasdk.create_model("heatmap_pose", backbone_config=json.loads(SMALL), input_size=[48, 32], keypoints=2)
    mambasdk.save_package(model, tmp_path / "package")
    pipeline = load_pipeline(tmp_path / "package")
    image = (data / "images" / "0.png").read_bytes()
    boxes = np.array([[0, 0, 30, 30], [-20, 5, 200, 300]], np.float32)
    given = {"image": image, "image.boxes": boxes, "image.box_scores": np.array([0.5, 2], np.float32)}
    plain = pipeline.run(given, {"keypoint_threshold": -1e9})
    alone = [
        pipeline.run(
            {"image": image, "image.boxes": boxes[i : i + 1], "image.box_scores": given["image.box_scores"][i : i + 1]},
            {"keypoint_threshold": -1e9},
        )
        for i in range(2)
    ]
    np.testing.assert_allclose(plain["keypoints"], np.concatenate([one["keypoints"] for one in alone]), atol=1e-4)
    np.testing.assert_allclose(plain["scores"], np.concatenate([one["scores"] for one in alone]), atol=1e-6)
    nobody = pipeline.run({"image": image, "image.boxes": np.zeros((0, 4), np.float32)})
    assert nobody["json"] == {"people": [], "names": [], "skeleton": []}
    with pytest.raises(ValueError, match="boxes: row 0"):
        pipeline.run({"image": image, "image.boxes": np.full((1, 4), np.nan, np.float32)})
    with pytest.raises(ValueError, match='no option "flip"'):
        pipeline.run({"image": image}, {"flip": True})


def test_files_of_mmpose_import_by_their_names(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model: Any = mambasdk.create_model("heatmap_pose", backbone_config=json.loads(SMALL), input_size=48, keypoints=6)
    state = {**model.state_dict(), "data_preprocessor.mean": torch.zeros(3)}
    nested = {"meta": {"epoch": 1}, "state_dict": state}
    torch.save(nested, tmp_path / "model.pth")
    config = {"backbone": "hrvmamba", "input_size": [48, 48]}
    again: Any = import_checkpoint("heatmap_pose", config, tmp_path / "model.pth")
    image = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(again.eval()(image), model.eval()(image))
    assert again.config.keypoints == 6
    with pytest.raises(CheckpointError, match="does not say which encoder"):
        import_checkpoint("heatmap_pose", {}, state)
    with pytest.raises(CheckpointError, match=r"no top-down pose: head\.final_layer\.weight missing"):
        import_checkpoint("heatmap_pose", config, {"backbone.conv1.weight": torch.zeros(1)})


@pytest.mark.parametrize("backbone", ["vim", "vmamba"])
def test_any_encoder_with_a_map_of_stride_4_takes_part(backbone: str) -> None:
    tiny = {"vim": {"depth": 4, "embed_dim": 16, "patch_size": 8}, "vmamba": {"dims": 8, "depths": [1, 1, 1, 1]}}
    model: Any = mambasdk.create_model(
        "heatmap_pose", backbone=backbone, backbone_config=tiny[backbone], input_size=[64, 48], keypoints=3
    )
    with torch.no_grad():
        maps = model(torch.randn(2, 3, 64, 48))
    assert maps.shape[:2] == (2, 3)
    with pytest.raises(InvalidArgumentError, match=r"bad keypoints: expected an integer of 1 or more"):
        mambasdk.create_model("heatmap_pose", keypoints=0)


def example(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE), "--out", str(out), *arguments], capture_output=True, text=True, check=False
    )


def test_the_stick_figures_example_fails_where_it_misses_its_goal(tmp_path: Path) -> None:
    done = example(tmp_path, "--steps", "1", "--pictures", "8", "--threads", "1")
    assert done.returncode == 1, done.stderr
    assert "the goal is missed: PCK@0.1 is to be above 95%" in done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["PCK"] < 0.5
    assert Image.open(tmp_path / "found_0000.png").format == "PNG"


@pytest.mark.slow
def test_the_stick_figures_example_reaches_its_goal(tmp_path: Path) -> None:
    done = example(tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["PCK"] > 0.95

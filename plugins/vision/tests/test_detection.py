"""Detection from the command line: labels in, a package out that Python and C++ run alike; pictures, texts, video."""

from __future__ import annotations

import importlib
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
from mambasdk.errors import InvalidArgumentError, MissingDependencyError
from mambasdk.package import Manifest
from mambasdk_vision import ImageProcessor
from mambasdk_vision.detection.boxes import corners
from mambasdk_vision.plugin import LIBRARY

pytest.importorskip("yaml")
ROOT = Path(__file__).parents[3]
MODEL = ["--set", "width=0.03125", "--set", "reg_max=4", "--imgsz", "64"]
COLOURS = {"red": (230, 30, 30), "green": (30, 200, 30)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.yaml with eight pictures of a coloured square, and one of nothing, to train on, and four held out."""
    root = tmp_path_factory.mktemp("squares")
    chance = np.random.default_rng(0)
    for part, count in (("train", 9), ("val", 4)):
        for folder in ("images", "labels"):
            (root / folder / part).mkdir(parents=True)
        for index in range(count):
            pixels = chance.integers(0, 60, (50, 70, 3), dtype=np.uint8)
            if index < 8:
                top, left, side = chance.integers(0, 20), chance.integers(0, 30), chance.integers(16, 30)
                pixels[top : top + side, left : left + side] = list(COLOURS.values())[index % 2]
                centre = (left + side / 2) / 70, (top + side / 2) / 50
                line = f"{index % 2} {centre[0]:.6f} {centre[1]:.6f} {side / 70:.6f} {side / 50:.6f}\n"
                (root / "labels" / part / f"{index}.txt").write_text(line)
            Image.fromarray(pixels).save(root / "images" / part / f"{index}.{'png' if index % 2 else 'jpg'}")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [red, green]\n")
    return root / "data.yaml"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def train(capsys: pytest.CaptureFixture[str], data: Path, out: Path, *more: str, model: str = "mamba_yolo") -> Any:
    fixed = ["--batch", "4", "--threads", "1", "--no-pictures"]
    return call(capsys, "train", model, "--data", str(data), "--out", str(out), *fixed, *more)


def test_a_package_of_a_detector_from_labels_to_cpp(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package"
    run = ["--epochs", "2", "--optimizer", "sgd", "--lr0", "0.01", "--freeze", "2", "--pictures", "--clip", "5"]
    report = train(capsys, data, package, *MODEL, *run)
    assert report["classes"] == ["red", "green"]
    assert (report["train_images"], report["held_out_images"], report["steps"]) == (9, 4, 6)
    assert report["engine"] == "native"
    assert set(report["pictures"]) == {"confusion_matrix", "precision_recall", "predictions", "curve"}
    for path in report["pictures"].values():
        assert Image.open(path).format == "PNG"
    manifest = Manifest.read(package)
    assert manifest.head_options is not None
    assert manifest.head_options["labels"] == ["red", "green"]
    assert manifest.head_options["box_format"] == "cxcywh"
    assert manifest.processors["image"]["resize"] == "letterbox"
    assert mambasdk.verify(package).passed

    scores = call(capsys, "evaluate", str(package), "--data", str(data), "--plot", str(tmp_path / "scores"))
    assert {"AP", "AP50", "AP75", "APs", "VOC_mAP50", "VOC_mAP50_11_points"} <= set(scores["metrics"])
    assert [(row["class"], row["objects"]) for row in scores["classes"]] == [("red", 2), ("green", 2)]
    assert np.array(scores["confusion_matrix"])[:2].sum() == 4
    assert sorted(scores["pictures"]) == ["confusion_matrix", "precision_recall", "predictions"]

    files = sorted((data.parent / "images" / "val").iterdir())
    some = ["--conf", "0.0", "--iou", "0.6", "--max-det", "5"]
    outputs = ["--plot", str(tmp_path / "plots"), "--save-txt", str(tmp_path / "labels"), "--save-conf"]
    results = call(capsys, "predict", str(package), str(files[0].parent), *some, *outputs)["results"]
    assert [Path(result["file"]).name for result in results] == [file.name for file in files]
    for result in results:
        assert len(result["detections"]) == 5
        assert Image.open(result["plot"]).format == "PNG"
        rows = np.loadtxt(result["labels"], ndmin=2)
        assert rows[:, 0].tolist() == [one["index"] for one in result["detections"]]
        boxes = corners(rows[:, 1:5]) * (70, 50, 70, 50)
        np.testing.assert_allclose(boxes, [one["box"] for one in result["detections"]], atol=1e-3)
        np.testing.assert_allclose(rows[:, 5], [one["score"] for one in result["detections"]], rtol=1e-5)
    # PyTorch and the native engine find the same.
    model: Any = mambasdk.load(package)
    processor = ImageProcessor(**{name: v for name, v in manifest.processors["image"].items() if name != "kind"})
    with torch.no_grad():
        made = model.native_outputs({"image": torch.from_numpy(processor(files[0])["image"])})
    best = made["scores"][0].amax(1).topk(1).values.item()
    assert results[0]["detections"][0]["score"] == pytest.approx(best, abs=1e-4)

    plain = call(capsys, "predict", str(package), *map(str, files))["results"]
    without = [{"detections": result["detections"]} for result in plain]
    assert toy_pipelines.run_cpp(package, "image", files, LIBRARY) == without
    one = call(capsys, "predict", str(package), str(files[0]), *some, "--classes", "green")["results"][0]
    assert {entry["label"] for entry in one["detections"]} <= {"green"}
    assert main(["predict", str(package), str(files[0]), "--classes", "blue"]) == 2
    assert "--classes blue: no such class: expected 0 to 1, or red, green" in capsys.readouterr().err


def test_training_goes_on_and_learns_other_classes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package"
    torch_only = ["--engine", "torch", *MODEL]
    train(capsys, data, package, *torch_only, "--steps", "2")
    again = train(capsys, data, package, *torch_only, "--steps", "4", "--overwrite")
    assert (again["resumed_at"], again["steps"]) == (2, 4)

    other = data.parent / "other.yaml"
    other.write_text(data.read_text().replace("[red, green]", "[red, green, blue]"))
    third = train(capsys, other, tmp_path / "third", "--engine", "torch", "--steps", "1", model=str(package))
    assert third["classes"] == ["red", "green", "blue"]
    assert mambasdk.load(tmp_path / "third").config.num_classes == 3  # type: ignore[union-attr]
    assert Manifest.read(tmp_path / "third").processors["image"]["size"] == [64, 64]


def test_faults_of_the_command_are_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*arguments: str) -> str:
        assert main(["train", "mamba_yolo", "--out", str(tmp_path / "p"), *arguments]) == 2
        return capsys.readouterr().err

    assert "bad imgsz: expected multiples of 32" in fails("--data", str(data), *MODEL[:4], "--imgsz", "60")
    assert "bad --epochs: expected 1 or more, got 0" in fails("--data", str(data), *MODEL, "--epochs", "0")
    assert "no such part of the model" in fails("--data", str(data), *MODEL, "--freeze", "encoder", "--steps", "1")
    assert "bad mosaic" in fails("--data", str(data), *MODEL, "--mosaic", "3")
    assert "not labelled images" in fails("--data", str(tmp_path), *MODEL)
    empty = data.parent / "empty.yaml"
    (data.parent / "nothing").mkdir(exist_ok=True)
    empty.write_text("train: nothing\nnames: [a]\n")
    assert "no images" in fails("--data", str(empty), *MODEL)
    labels = data.parent / "labels" / "train" / "0.txt"
    good = labels.read_text()
    try:
        labels.write_text("7 0.5 0.5 0.1 0.1\n")
        assert "0.txt:1: class 7 is out of range: expected 0 to 1" in fails("--data", str(data), *MODEL)
        out = tmp_path / "kept"
        report = train(capsys, data, out, *MODEL, "--engine", "torch", "--steps", "1", "--skip-bad", "--last")
        assert report["train_images"] == 8
    finally:
        labels.write_text(good)


def test_pixels_of_the_step_are_the_seeds(data: Path) -> None:
    """The batch of a step is what the loss sees; the last epochs have no mosaic."""
    from mambasdk_vision.detection.augmentation import BoxAugmentation
    from mambasdk_vision.detection.pixels import LabelledPixels
    from mambasdk_vision.detection.reading import read_data
    from mambasdk_vision.detection.task import ObjectDetectionTask

    entry = {"kind": "image", "size": 64, "resize": "letterbox"}
    pixels = LabelledPixels(read_data(data, part="train"), entry)
    model: Any = mambasdk.create_model("mamba_yolo", width=0.03125, reg_max=4, num_classes=2, imgsz=64)
    plain = BoxAugmentation(hsv_h=0, hsv_s=0, hsv_v=0, translate=0, scale=0, fliplr=0)
    task = ObjectDetectionTask(model, pixels, pixels, entry, batch=9, augmentation=plain, close_mosaic=3)
    assert task.batch(2)[0].shape == (9, 64, 64, 3)
    assert not np.array_equal(np.sort(task.batch(2)[0], axis=0), np.sort(pixels.letterboxed(np.arange(9)), axis=0))
    images, boxes = task.batch(3)
    every = pixels.letterboxed(np.arange(9))
    assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in every)
    assert sum(map(len, boxes)) == 8
    model.train()
    loss, count = task.loss(0)
    assert torch.isfinite(loss)
    assert count == 9
    model.eval()
    with torch.no_grad():
        assert set(task.evaluate()) == {"AP", "AP50", "AP75"}


def test_a_run_that_goes_on_closes_the_mosaic_where_one_run_does(data: Path, tmp_path: Path) -> None:
    """Stopped before and after the step from which there is no mosaic, with averaged weights: the same bits."""
    from mambasdk.training import Trainer, TrainingOptions
    from mambasdk_vision.detection.pixels import LabelledPixels
    from mambasdk_vision.detection.reading import read_data
    from mambasdk_vision.detection.task import ObjectDetectionTask

    entry = {"kind": "image", "size": 64, "resize": "letterbox"}
    pixels = LabelledPixels(read_data(data, part="train"), entry)
    options = TrainingOptions(steps=5, batch=3, ema=0.9)

    def trainer(close_mosaic: int | None = 3) -> Trainer:
        torch.manual_seed(0)
        model: Any = mambasdk.create_model("mamba_yolo", width=0.03125, reg_max=4, num_classes=2, imgsz=64)
        task = ObjectDetectionTask(model, pixels, pixels, entry, batch=3, close_mosaic=close_mosaic)
        return Trainer(model, task, options)

    def losses(*ends: int) -> tuple[list[float], Trainer]:
        """Of a run that is stopped and taken up again after each of these steps."""
        run = trainer()
        for end in ends:
            run.run(stop=lambda run=run, end=end: run.result.steps >= end, progress=False)
            run.save(tmp_path / "checkpoint.pt")
            run = trainer()
            run.resume(tmp_path / "checkpoint.pt")
        run.run(progress=False)
        return run.result.losses, run

    once, first = losses()
    twice, second = losses(2, 4)
    assert once == twice
    assert first.average is not None
    assert second.average is not None
    ours, theirs = first.average.state_dict(), second.average.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    never = trainer(close_mosaic=None)
    never.run(progress=False)
    assert never.result.losses[:3] == once[:3]
    assert never.result.losses[3] != once[3]


def write_video(path: Path, frames: int) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose boxes do not depend much on the image."""
    from mambasdk.lowering import Program

    program = Program()
    flat = program.reshape(program.input("image", "f32", [1, 3, 8, 8]), [1, 192])
    boxes = program.reshape(program.linear(flat, "boxes", bias=True), [1, 2, 4])
    program.output("boxes", boxes, "f32", [1, 2, 4])
    program.output("scores", program.reshape(program.linear(flat, "scores", bias=True), [1, 2, 1]), "f32", [1, 2, 1])
    weights = {
        "boxes.weight": np.zeros((8, 192), np.float32),
        "boxes.bias": np.array([4, 4, 3, 3, 2, 2, 2, 2], np.float32),
        "scores.weight": np.full((2, 192), 1e-3, np.float32),
        "scores.bias": np.array([0.5, 0.3], np.float32),
    }
    return toy_pipelines.write_package(
        tmp_path_factory.mktemp("toy") / "package",
        program,
        weights,
        processors={"image": {"kind": "image", "size": 8, "resize": "letterbox"}},
        head="object_detection",
        head_options={"labels": ["thing"], "box_format": "cxcywh"},
        plugin="mambasdk-vision",
    )


def test_frames_of_a_video(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_video(tmp_path / "clip.mp4", 4)
    outputs = ["--plot", str(tmp_path / "plots"), "--save-txt", str(tmp_path / "labels")]
    results = call(capsys, "predict", str(toy), str(clip), *outputs)["results"]
    assert [result["frame"] for result in results] == [0, 1, 2, 3]
    scores = [result["detections"][0]["score"] for result in results]
    assert scores == sorted(scores)  # frames are brighter and brighter
    assert scores[0] < scores[-1]
    names = [f"clip-{number:06d}" for number in range(4)]
    assert sorted(path.stem for path in (tmp_path / "plots").iterdir()) == names
    assert sorted(path.stem for path in (tmp_path / "labels").iterdir()) == names
    assert Path(results[0]["labels"]).read_text().splitlines()[0].startswith("0 0.5 0.5")
    assert main(["predict", str(toy), str(clip)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "frame", "label", "score"]
    assert len(rows) == 4
    assert main(["predict", str(toy), str(clip), "--plot", str(tmp_path / "one.png")]) == 2
    assert "one picture for several files: expected a folder, got the frames of a video" in capsys.readouterr().err


def test_videos_that_have_no_frames(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = write_video(tmp_path / "none.mp4", 0)
    assert main(["predict", str(toy), str(none)]) == 2
    assert "none.mp4: " in capsys.readouterr().err
    (tmp_path / "text.avi").write_text("no video")
    assert main(["predict", str(toy), str(tmp_path / "text.avi")]) == 2
    assert "text.avi: no video that can be read" in capsys.readouterr().err
    assert main(["predict", str(toy), str(tmp_path / "absent.mp4")]) == 2
    assert "absent.mp4: cannot be read: no such file" in capsys.readouterr().err
    clip = write_video(tmp_path / "clip.mp4", 2)
    results = call(capsys, "predict", str(toy), str(none), str(clip), "--skip-bad")["results"]
    assert ["error" in result for result in results] == [True, False, False]

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("mambasdk.errors.importlib.import_module", absent)
    from mambasdk_vision.video import read_frames

    with pytest.raises(MissingDependencyError, match=r"pip install 'mambasdk-vision\[video\]'"):
        next(read_frames(clip))


def test_detectors_alone_are_trained(tmp_path: Path) -> None:
    import argparse

    head = importlib.import_module("mambasdk_vision.heads.object_detection")
    args = argparse.Namespace(model="vmamba", size=None, overrides={"dims": 16, "depths": [1, 1]}, seed=0, device="cpu",
                              yes=True)  # fmt: skip
    with pytest.raises(InvalidArgumentError, match="is no detector"):
        head._model(args, ["a", "b"])


EXAMPLES = [("detection_shapes", "shapes.py", "AP50"), ("faces_expressions", "faces.py", "VOC_mAP50")]


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "script", "metric"), EXAMPLES)
def test_a_short_run_of_an_example_misses_its_goal(tmp_path: Path, folder: str, script: str, metric: str) -> None:
    """Everything but the goal is there after two steps."""
    command = [sys.executable, str(ROOT / "examples" / folder / script), "--out", str(tmp_path), "--threads", "1"]
    done = subprocess.run([*command, "--steps", "2", "--images", "8"], capture_output=True, text=True, check=False)
    assert "is not above 0.9" in done.stderr, done.stderr
    assert done.returncode == 1
    assert json.loads((tmp_path / "result.json").read_text())[metric] < 0.9
    assert len(list((tmp_path / "predictions").glob("*.png"))) == 8


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "script", "metric"), EXAMPLES)
def test_examples_reach_their_goals(tmp_path: Path, folder: str, script: str, metric: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / folder / script), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text())[metric] > 0.9

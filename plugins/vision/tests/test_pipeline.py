"""Image file in, labels or boxes out: a toy native package from Python, from the command line and from C++."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_pipelines
from PIL import Image

from mambasdk.command_line import main
from mambasdk.lowering import Program
from mambasdk.pipeline import load_pipeline
from mambasdk_vision import ImageProcessor
from mambasdk_vision.plugin import LIBRARY

LABELS = ["cat", "dog", "cow"]
IMAGE = {"kind": "image", "size": 8, "crop_pct": 0.8, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for path in paths:
        Image.fromarray(pixels[:: 1 if path.suffix == ".png" else -1]).save(path)
    return paths


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    program, weights = toy_pipelines.linear_classifier("image", [1, 3, 8, 8], 3)
    return toy_pipelines.write_package(
        tmp_path / "classifier",
        program,
        weights,
        processors={"image": IMAGE},
        head="image_classification",
        head_options={"labels": LABELS, "top_k": 2},
        plugin="mambasdk-vision",
    )


def test_labels_in_python_command_line_and_cpp(
    classifier: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = load_pipeline(classifier, verify=True)
    results = [pipeline.run({"image": path.read_bytes()})["json"] for path in files]

    _, weights = toy_pipelines.linear_classifier("image", [1, 3, 8, 8], 3)
    options = {name: value for name, value in IMAGE.items() if name != "kind"}
    for path, result in zip(files, results, strict=True):
        x = ImageProcessor(**options)(path)["image"].astype(np.float64).reshape(-1)
        logits = weights["head.weight"].astype(np.float64) @ x + weights["head.bias"]
        scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        best = np.argsort(-scores)[:2]
        assert [entry["label"] for entry in result["labels"]] == [LABELS[i] for i in best]
        np.testing.assert_allclose([entry["score"] for entry in result["labels"]], scores[best], atol=1e-5)

    assert toy_pipelines.run_cpp(classifier, "image", files, LIBRARY) == results
    assert main(["predict", str(classifier), *map(str, files), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["results"]
    assert printed == [{"file": str(path), **result} for path, result in zip(files, results, strict=True)]
    assert main(["predict", str(classifier), str(files[0]), "--top-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3


def test_a_folder_gives_one_table(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    paths = [folder / "a.png", folder / "b.JPG", folder / "deep" / "c.jpeg"]
    for path, picture in zip(paths, pixels, strict=True):
        Image.fromarray(picture).save(path)
    for other in ("labels.csv", ".hidden.png"):
        (folder / other).write_bytes(b"no picture")

    pipeline = load_pipeline(classifier)
    best = [pipeline.run({"image": path.read_bytes()})["json"]["labels"][0] for path in paths]
    assert main(["predict", str(classifier), str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["results"]
    assert [(row["file"], row["labels"][0]) for row in printed] == [
        (str(path), label) for path, label in zip(paths, best, strict=True)
    ]
    assert main(["predict", str(classifier), str(folder)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "label", "score"]
    assert [row.split()[:2] for row in rows] == [
        [str(path), label["label"]] for path, label in zip(paths, best, strict=True)
    ]
    assert main(["predict", str(classifier), str(folder), "--plot", str(tmp_path / "plots"), "--json"]) == 0
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["a.png", "b.png", "c.png"]
    capsys.readouterr()

    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["predict", str(classifier), str(folder)]) == 2
    assert "broken.png: image: the PNG file is damaged" in capsys.readouterr().err
    assert main(["predict", str(classifier), str(folder), "--skip-bad"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1 + 4
    assert "skipped: " in captured.err
    assert "broken.png" in captured.err
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(classifier), str(tmp_path / "empty")]) == 2
    assert "no files to predict in this folder: expected *.png, *.jpg, *.jpeg" in capsys.readouterr().err


def test_boxes_in_python_and_cpp(tmp_path: Path, files: list[Path]) -> None:
    program = Program()
    flat = program.reshape(program.input("image", "f32", [1, 3, 8, 8]), [1, 192])
    boxes = program.reshape(program.linear(flat, "boxes", bias=True), [1, 6, 4])
    program.output("boxes", boxes, "f32", [1, 6, 4])
    program.output("scores", program.reshape(program.linear(flat, "scores", bias=False), [1, 6, 2]), "f32", [1, 6, 2])
    chance = np.random.default_rng(3)
    weights = {
        "boxes.weight": chance.normal(0, 0.003, (24, 192)).astype(np.float32),
        "boxes.bias": np.tile(np.array([4, 4, 3, 3], np.float32), 6),
        "scores.weight": chance.normal(0, 0.2, (12, 192)).astype(np.float32),
    }
    package = toy_pipelines.write_package(
        tmp_path / "detector",
        program,
        weights,
        processors={"image": IMAGE},
        head="object_detection",
        head_options={"labels": ["one", "two"], "box_format": "cxcywh", "activation": "sigmoid"},
        plugin="mambasdk-vision",
    )
    results = [load_pipeline(package).run({"image": path.read_bytes()})["json"] for path in files]
    assert toy_pipelines.run_cpp(package, "image", files, LIBRARY) == results
    for entry in results[0]["detections"]:
        x1, y1, x2, y2 = entry["box"]
        assert 0 <= x1 < x2 <= 41
        assert 0 <= y1 < y2 <= 30
    assert results[0]["detections"]


def test_errors_name_the_file_and_the_way_out(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["predict", str(classifier), str(tmp_path / "broken.png")]) == 2
    assert "broken.png: image: the PNG file is damaged" in capsys.readouterr().err
    assert main(["predict", str(classifier), str(tmp_path / "none.png")]) == 2
    assert "none.png: cannot be read" in capsys.readouterr().err
    assert main(["predict", str(classifier), __file__, "--slot", "sound"]) == 2
    assert "no such processor: expected image, got sound" in capsys.readouterr().err
    manifest = json.loads((classifier / "mambasdk.json").read_text())
    manifest["requires"]["plugins"] = [{"name": "mambasdk-absent"}]
    (classifier / "mambasdk.json").write_text(json.dumps(manifest))
    assert main(["predict", str(classifier), __file__]) == 2
    assert "plugin mambasdk-absent is not installed; pip install mambasdk-absent" in capsys.readouterr().err

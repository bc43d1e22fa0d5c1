"""`mambasdk track` and `mambasdk train mambatrack` on MOTChallenge folders; training data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import InvalidArgumentError
from mambasdk.models import identity
from mambasdk.package import Manifest
from mambasdk_tracking.metrics import evaluate_folder
from mambasdk_tracking.mot import SequenceInfo, make_table, read_table, write_ground_truth, write_info, write_results
from mambasdk_tracking.windows import make_windows, paired_iou, split_tracks, track_paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos of swinging boxes, 50 frames; each object is missed in a tenth of them."""
    chance = np.random.default_rng(0)
    for number in range(2):
        frames = np.arange(1, 51)
        x = 300 * np.arange(1, 5)[:, None] + 90 * np.sin(0.08 * frames + chance.uniform(0, 6, (4, 1)))
        y = 400 + 40 * np.cos(0.06 * frames + chance.uniform(0, 6, (4, 1)))
        boxes = np.stack([x, y, np.full_like(x, 60), np.full_like(x, 140)], -1).reshape(-1, 4)
        times, ids = np.tile(frames, 4), np.repeat([1, 2, 3, 4], 50)
        video = tmp_path / "mot" / f"video-{number}"
        write_info(video, SequenceInfo(f"video-{number}", 50, (1280, 720)))
        write_ground_truth(video / "gt" / "gt.txt", make_table(times, ids, boxes))
        seen = chance.random(len(times)) > 0.1
        write_results(video / "det" / "det.txt", make_table(times[seen], -ids[seen] * 0 - 1, boxes[seen], 0.9))
    return tmp_path / "mot"


def run(*arguments: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([str(argument) for argument in arguments] + ["--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_train_then_track(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "package"
    sizes = ["--set", "d_model=16", "--set", "n_layer=1", "--set", "d_state=4"]
    report = run("train", "mambatrack", "--data", folder, "--out", package, *sizes, "--steps", 60, "--batch", 32,
                 "--held-out", 0.25, "--curve", tmp_path / "curve.png", capsys=capsys)  # fmt: skip
    assert (report["windows"], report["held_out_windows"]) == (6 * 39, 2 * 39)
    assert report["held_out_iou"] > 0.8
    assert (tmp_path / "curve.png").is_file()
    assert Manifest.read(package).head_options == {"image_size": [1280, 720]}
    report = run("track", package, folder / "video-0", "--out", tmp_path / "tracks.txt", "--plot",
                 tmp_path / "tracks.png", capsys=capsys)  # fmt: skip
    assert report["metrics"]["MOTA"] > 0.85
    assert report["metrics"]["IDF1"] > 0.85
    tracks = read_table(tmp_path / "tracks.txt")
    assert (len(tracks), len(np.unique(tracks.ids)), report["frames"]) == (report["boxes"], report["tracks"], 50)
    assert (tmp_path / "tracks.png").read_bytes().startswith(b"\x89PNG")
    # From the folder, from the file with everything said, and from the file alone: its size is in the package.
    file = tmp_path / "elsewhere.txt"
    file.write_bytes((folder / "video-0" / "det" / "det.txt").read_bytes())
    gt = folder / "video-0" / "gt" / "gt.txt"
    for extra in (["--image-size", "1280x720", "--frames", 50], []):
        again = run("track", package, file, "--gt", gt, *extra, capsys=capsys)
        assert again["metrics"] == report["metrics"]
    one = run("evaluate", package, "--data", folder / "video-0", "--plot", tmp_path / "plots", capsys=capsys)
    assert {**one["metrics"], "HOTA_per_alpha": one["HOTA_per_alpha"]} == report["metrics"]
    assert {Path(path).name for path in one["pictures"].values()} == {"hota.png", "tracks-video-0.png"}
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in one["pictures"].values())
    both = run("evaluate", package, "--data", folder, capsys=capsys)
    assert [row["video"] for row in both["videos"]] == ["video-0", "video-1"]
    assert both["metrics_of"]["video-0"]["IDF1"] == report["metrics"]["IDF1"]


def test_motion_without_a_package(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detections = folder / "video-1" / "det" / "det.txt"
    found = {}
    for motion in ("kalman", "none"):
        found[motion] = run("track", "--motion", motion, detections, capsys=capsys)
        assert found[motion]["metrics"]["CLR_FP"] == 0  # seqinfo.ini and gt.txt were found around it
    assert run("track", detections, capsys=capsys)["metrics"] == found["kalman"]["metrics"]
    assert main(["track", str(detections), "--out", str(tmp_path / "tracks.txt")]) == 0
    said = capsys.readouterr().out
    assert "HOTA" in said
    assert "video-1" in said


def test_the_papers_schedule(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from mambasdk_tracking.training import PaperTrainer, paper_options

    run("train", "mambatrack", "--data", folder, "--out", tmp_path / "package", "--set", "d_model=8", "--set",
        "n_layer=1", "--set", "norm=post", "--schedule", "paper", "--steps", 3, capsys=capsys)  # fmt: skip
    model = mambasdk.load(tmp_path / "package")
    assert identity(model).config["norm"] == "post"
    trainer = PaperTrainer(model, None, paper_options(10, None))  # type: ignore[arg-type]
    for step, expected in ((1, 8**-0.5 * 4000**-1.5), (4000, 8**-0.5 * 4000**-0.5), (16000, 8**-0.5 / 4000**0.5 / 2)):
        trainer.result.steps = step - 1
        assert trainer.learning_rate(0.0) == pytest.approx(expected)
    group = trainer._optimizer.param_groups[0]
    assert (group["betas"], group["weight_decay"], group["eps"]) == ((0.9, 0.98), 0.0, 1e-8)


def test_all_videos_of_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run("track", folder, "--out", tmp_path / "out", "--plot", tmp_path / "plots", capsys=capsys)
    names = ["video-0", "video-1"]
    assert [video["video"] for video in report["videos"]] == names
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["video-0.png", "video-1.png"]
    measured = evaluate_folder(folder, tmp_path / "out")
    assert list(report["metrics_of"]) == names
    assert report["metrics"]["IDF1"] == pytest.approx(measured.total["IDF1"], abs=1e-3)  # files hold two decimals
    alone = run("track", folder / "video-1", "--out", tmp_path / "alone.txt", capsys=capsys)
    assert alone["metrics"] == {**report["metrics_of"]["video-1"], "HOTA_per_alpha": alone["metrics"]["HOTA_per_alpha"]}
    assert (tmp_path / "alone.txt").read_bytes() == (tmp_path / "out" / "video-1.txt").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["track", "{package}", "{det}", "--motion", "kalman"], "both a package and --motion"),
        (["track", "nowhere.txt"], "no such file"),
        (["track", "{root}", "--gt", "gt.txt"], "--gt names one file: expected one video, got 2 videos"),
        (["track", "{det}", "--image-size", "large"], "expected WIDTHxHEIGHT"),
        (["track", "{root}", "{det}"], "mambasdk.json"),
        (["train", "mambatrack", "--data", "{empty}", "--out", "{out}"], "no seqinfo.ini in it"),
        (["train", "mambatrack", "--data", "{root}", "--out", "{out}", "--held-out", "2"], "above 0, below 1"),
        (
            ["train", "mambatrack", "--data", "{root}", "--out", "{out}", "--set", "window=60"],
            "no track is long enough",
        ),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, folder: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    names = {
        "package": package,
        "root": folder,
        "det": folder / "video-0" / "det" / "det.txt",
        "empty": tmp_path / "empty",
        "out": tmp_path / "out",
    }
    assert main([argument.format(**names) for argument in arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said


def test_windows_are_the_runs_of_tracks() -> None:
    """A track with a gap gives two paths; each window's deltas lead from box to box."""
    frames = np.array([*range(1, 21), *range(30, 45)])
    boxes = np.random.default_rng(0).uniform(50, 200, (35, 4))
    table = make_table([*frames, 1], [3] * 35 + [4], np.concatenate([boxes, boxes[:1]]))
    paths = track_paths(table, 12)
    assert [len(path) for path in paths] == [20, 15]
    centred = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], 1)
    np.testing.assert_array_equal(np.concatenate(paths), centred)
    windows = make_windows([(path, (1000, 500)) for path in paths], window=10, scale=50)
    assert len(windows) == 9 + 4
    size = np.array([1000, 500, 1000, 500])
    start = windows.last - windows.deltas.sum(1) * size / 50
    np.testing.assert_allclose(start[0], centred[0], atol=1e-3)
    np.testing.assert_allclose(windows.boxes_from(windows.target), windows.next, atol=1e-3)
    np.testing.assert_array_equal(windows.next[-1], centred[-1])
    assert paired_iou(windows.next, windows.next) == pytest.approx(1)


def test_held_out_tracks_are_whole_and_never_trained_on() -> None:
    paths = [(np.full((20, 4), float(i)), (100.0, 100.0)) for i in range(20)]
    train, held_out = split_tracks(paths, 0.2)
    numbers = [sorted(int(path[0, 0]) for path, _ in part) for part in (train, held_out)]
    assert len(numbers[1]) == 4
    assert sorted(numbers[0] + numbers[1]) == list(range(20))
    with pytest.raises(InvalidArgumentError, match="too few tracks"):
        split_tracks(paths[:1], 0.5)

"""`mambasdk track VIDEO --detector PACKAGE`, in Python and in C++: a toy detector on a toy video."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import moving_squares
import numpy as np
import pytest
import toy_pipelines
from PIL import Image

from mambasdk.command_line import main
from mambasdk.errors import InvalidArgumentError
from mambasdk_tracking.detector import Detector
from mambasdk_tracking.interpolation import interpolate
from mambasdk_tracking.metrics import evaluate
from mambasdk_tracking.mot import SequenceInfo, read_info, read_table, write_ground_truth, write_info
from mambasdk_tracking.plugin import LIBRARY
from mambasdk_tracking.video import open_video
from mambasdk_tracking.video_files import write_video
from mambasdk_tracking.video_tracks import track_video

vision = pytest.importorskip("mambasdk_vision.plugin")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_squares.write_detector(tmp_path_factory.mktemp("detector") / "package")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    moving_squares.write_pictures(tmp_path / "frames")
    return tmp_path / "frames"


def run(*arguments: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["track", *map(str, arguments), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_from_a_folder_of_pictures(
    detector: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    report = run(frames, "--detector", detector, "--out", out, "--video", tmp_path / "drawn", capsys=capsys)
    truth = moving_squares.truth()
    assert (report["tracks"], report["boxes"], report["frames"]) == (2, len(truth), moving_squares.FRAMES)
    tracks = read_table(out / "track.txt")
    measured = evaluate({"squares": (truth, tracks)}).total
    assert (measured["MOTA"], measured["IDF1"]) == (1, 1)
    assert measured["HOTA"] > 0.9
    assert len(list((tmp_path / "drawn").iterdir())) == moving_squares.FRAMES
    # What was found is kept, so that tracking it anew needs no detector.
    assert read_info(out) == SequenceInfo("frames", moving_squares.FRAMES, (128, 64))
    again = run(out, "--out", tmp_path / "again.txt", capsys=capsys)
    assert (again["tracks"], again["boxes"]) == (2, len(truth))
    assert (tmp_path / "again.txt").read_bytes() == (out / "track.txt").read_bytes()


def test_from_a_video_file(detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    squares = (Image.fromarray(moving_squares.pixels(number)) for number in range(1, moving_squares.FRAMES + 1))
    write_video(tmp_path / "squares.mp4", squares, 25)
    write_ground_truth(tmp_path / "gt.txt", moving_squares.truth())
    for video in ("drawn.mp4", "drawn.gif"):
        report = run(tmp_path / "squares.mp4", "--detector", detector, "--gt", tmp_path / "gt.txt", "--out",
                     tmp_path / "out", "--video", tmp_path / video, capsys=capsys)  # fmt: skip
        assert report["metrics"]["MOTA"] == 1
        assert report["metrics"]["IDF1"] == 1
        assert read_info(tmp_path / "out") == SequenceInfo("squares", moving_squares.FRAMES, (128, 64), 25)
        assert sum(1 for _ in open_video(tmp_path / video).frames()) == moving_squares.FRAMES
    assert main(["track", str(tmp_path / "squares.mp4"), "--detector", str(detector)]) == 0
    assert "squares: 2 tracks, 45 boxes in 24 frames" in capsys.readouterr().out


@pytest.mark.parametrize("every", [2, 3])
def test_every_nth_frame(
    every: int, detector: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only these frames are looked at, under their own numbers; what lies between is filled by --interpolate."""
    report = run(frames, "--detector", detector, "--every", every, "--out", tmp_path / "a", capsys=capsys)
    tracks = read_table(tmp_path / "a" / "track.txt")
    assert set(tracks.frames) == set(range(1, 25, every))
    assert evaluate({"": (moving_squares.truth(every), tracks)}).total["IDF1"] == 1
    assert (report["frames"], report["tracks"]) == (24, 2)
    run(frames, "--detector", detector, "--every", every, "--interpolate", 5, "--out", tmp_path / "b", capsys=capsys)
    filled = read_table(tmp_path / "b" / "track.txt")
    expected = interpolate(tracks, 5)
    assert filled.frames.tolist() == expected.frames.tolist()
    np.testing.assert_allclose(filled.boxes, expected.boxes, atol=0.006)
    assert set(filled.frames[filled.ids == 1]) == set(range(1, max(tracks.frames) + 1))


def test_frames_classes_and_scores_that_count(
    detector: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(frames, "--detector", detector, "--max-frames", 7, "--out", tmp_path / "a", capsys=capsys)
    assert (report["frames"], read_table(tmp_path / "a" / "track.txt").frame_count) == (7, 7)
    for name in ("green", "1"):
        report = run(frames, "--detector", detector, "--classes", name, "--out", tmp_path / "b.txt", capsys=capsys)
        assert (report["tracks"], report["detected"]) == (1, 24 - len(moving_squares.HIDDEN))
        assert set(read_table(tmp_path / "b.txt").boxes[:, 1]) == {36}
    assert run(frames, "--detector", detector, "--classes", "red,green", capsys=capsys)["tracks"] == 2
    # Half of a square's neighbours overlap it by less than --iou 0.6, and have a lower score.
    assert run(frames, "--detector", detector, "--iou", 0.6, capsys=capsys)["detected"] > 60
    assert run(frames, "--detector", detector, "--iou", 0.6, "--conf", 0.9, capsys=capsys)["detected"] == 45
    assert run(frames, "--detector", detector, "--conf", 0.999, capsys=capsys)["tracks"] == 0


def test_learned_motion_and_several_videos(
    detector: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "mot"
    for name in ("one", "two"):
        moving_squares.write_pictures(root / name / "img1", ".jpg")
        write_info(root / name, SequenceInfo(name, 24, (128, 64)))
        write_ground_truth(root / name / "gt" / "gt.txt", moving_squares.truth())
    report = run(root, "--detector", detector, "--motion", package, "--out", tmp_path / "out", "--video",
                 tmp_path / "drawn", capsys=capsys)  # fmt: skip
    assert [row["video"] for row in report["videos"]] == ["one", "two"]
    assert report["metrics"]["MOTA"] > 0.9
    for name in ("one", "two"):
        assert (tmp_path / "out" / name / "track.txt").is_file()
        assert len(list((tmp_path / "drawn" / name).iterdir())) == 24
    first = (tmp_path / "out" / "one" / "track.txt").read_bytes()
    run(package, root / "one", "--detector", detector, "--out", tmp_path / "one", capsys=capsys)
    assert (tmp_path / "one" / "track.txt").read_bytes() == first


@pytest.mark.parametrize("motion", ["kalman", "model"])
@pytest.mark.parametrize("options", [[], ["--every", "3"], ["--conf", "0.94"]])
def test_cpp_writes_the_same_lines(
    motion: str, options: list[str], detector: Path, package: Path, frames: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    learned = ["--motion", str(package)] if motion == "model" else []
    run(frames, "--detector", detector, *learned, *options, "--out", tmp_path / "a.txt", capsys=capsys)
    files = [frame.where for frame in open_video(frames).frames()]
    plugins = ["--plugin", str(vision.LIBRARY), "--plugin", str(LIBRARY)]
    program = str(toy_pipelines.build_example("track_cpp"))
    done = subprocess.run(
        [program, str(detector), *files, *plugins, *learned, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "a.txt").read_text()
    assert len(done.stdout.splitlines()) >= 2


def test_cpp_names_what_is_wrong(detector: Path, frames: Path, tmp_path: Path) -> None:
    program = str(toy_pipelines.build_example("track_cpp"))
    plugins = ["--plugin", str(vision.LIBRARY), "--plugin", str(LIBRARY)]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for arguments, status, message in (
        ([str(detector)], 2, "usage: track_cpp"),
        ([str(detector), str(tmp_path / "none.png"), *plugins], 1, "none.png cannot be read"),
        ([str(detector), str(frames / "1.png"), str(tmp_path / "bad.png"), *plugins], 1, "bad.png: "),
        ([str(detector), str(frames / "1.png"), *plugins, "--every", "0"], 1, "--every: expected 1 or more"),
        ([str(detector), str(frames / "1.png"), *plugins, "--evry", "2"], 1, "no such option: --evry"),
    ):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert message in done.stderr


def test_nothing_is_found(detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dark").mkdir()
    for number in range(3):
        Image.new("RGB", (128, 64)).save(tmp_path / "dark" / f"{number}.png")
    report = run(tmp_path / "dark", "--detector", detector, "--out", tmp_path / "out", "--video", tmp_path / "a.gif",
                 capsys=capsys)  # fmt: skip
    assert (report["tracks"], report["boxes"], report["detected"], report["frames"]) == (0, 0, 0, 3)
    assert (tmp_path / "out" / "track.txt").read_bytes() == b""


def test_errors_are_one_line(
    detector: Path, package: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_bytes((frames / "1.png").read_bytes())
    (tmp_path / "bad" / "2.png").write_bytes((frames / "2.png").read_bytes()[:90])
    (tmp_path / "sizes").mkdir()
    (tmp_path / "sizes" / "1.png").write_bytes((frames / "1.png").read_bytes())
    Image.new("RGB", (40, 40)).save(tmp_path / "sizes" / "2.png")
    (tmp_path / "a.mp4").write_bytes(bytes(100))
    with_detector = ["--detector", str(detector)]
    for arguments, message in (
        ([tmp_path / "none.mp4", *with_detector], "none.mp4: no such file or folder"),
        ([tmp_path / "empty", *with_detector], "no frames: expected pictures"),
        ([tmp_path / "bad", *with_detector], "bad/2.png: image: "),
        ([tmp_path / "sizes", *with_detector], "2.png: the frames change their size: expected 128x64"),
        ([frames], "pictures, and nothing that finds objects in them; give --detector PACKAGE"),
        ([tmp_path / "a.mp4"], "no text: expected det.txt; of a video: give --detector PACKAGE"),
        (
            [frames, *with_detector, "--classes", "blue"],
            "no such class: blue: expected labels or indices of red, green",
        ),
        ([frames, *with_detector, "--every", "0"], "bad every: expected 1 or more, got 0"),
        ([frames, *with_detector, "--frames", "3"], "--frames is for detections in a file"),
        ([frames, "--every", "2"], "--every needs --detector"),
        ([frames, *with_detector, "--video", "a.png"], "no ending of a video"),
        ([package, frames, *with_detector, "--motion", "none"], "both a package and --motion"),
        ([frames, "--detector", package], "it takes detections, and finds none; give it as --motion"),
        ([frames, "--detector", tmp_path / "empty"], "mambasdk.json"),
    ):
        assert main(["track", *map(str, arguments)]) == 2, message
        assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_head_without_detections(tmp_path: Path) -> None:
    program, weights = toy_pipelines.linear_classifier("image", [1, 3, 8, 8], 3)
    package = toy_pipelines.write_package(
        tmp_path / "labels",
        program,
        weights,
        processors={"image": {"kind": "image", "size": 8}},
        head="image_classification",
        head_options={},
        plugin="mambasdk-vision",
    )
    with pytest.raises(InvalidArgumentError, match=r"labels: it is no detector: .* object_detection, got labels"):
        Detector(package)(moving_squares.pixels(1))


def test_from_python_with_any_function_as_detector(detector: Path, frames: Path) -> None:
    video = open_video(frames)
    found = track_video(video, Detector(detector), max_age=5)
    assert (len(found.tracks), found.frames, len(found.detections)) == (45, 24, 45)

    def by_hand(frame: Any, where: str) -> Any:
        return np.array([[10, 10, 30, 30, 0.9, 0]], np.float32)

    still = track_video(video, by_hand, "none", every=5)
    assert still.tracks.frames.tolist() == [1, 6, 11, 16, 21]
    assert set(still.tracks.ids) == {1}

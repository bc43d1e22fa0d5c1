"""Learned motion: the native tracker equals a plain one around PyTorch, in Python, the pipeline and C++; odd inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import toy_pipelines

import mambasdk
from mambasdk.command_line import main
from mambasdk.lowering import Program
from mambasdk.package import Manifest, save_package
from mambasdk.pipeline import load_pipeline
from mambasdk_tracking import Tracker, linear_assignment
from mambasdk_tracking.metrics.matching import box_iou
from mambasdk_tracking.mot import make_table, write_results
from mambasdk_tracking.plugin import LIBRARY

IMAGE = (1920, 1080)
Array = npt.NDArray[Any]


def scene(objects: int = 5, frames: int = 36, seed: int = 0) -> list[Array]:
    """Boxes that swing about and cross; a fifth is missed, and once nothing is seen at all."""
    chance = np.random.default_rng(seed)
    centre = chance.uniform((200, 200), (900, 600), (objects, 2))
    size = chance.uniform((60, 120), (110, 240), (objects, 2))
    swing, phase = chance.uniform(20, 160, (objects, 2)), chance.uniform(0, 6, (objects, 2))
    made = []
    for t in range(frames):
        middle = centre + swing * np.sin(0.12 * t + phase)
        rows = np.concatenate([middle - size / 2, middle + size / 2, chance.uniform(0.1, 1, (objects, 1))], 1)
        made.append(rows[(chance.random(objects) > 0.2) & (t not in (20, 21))].astype(np.float32))
    return made


def det_text(frames: list[Array]) -> bytes:
    return "\n".join(
        f"{t + 1},-1,{b[0]!r},{b[1]!r},{np.float64(b[2]) - b[0]!r},{np.float64(b[3]) - b[1]!r},{b[4]!r}".replace(
            "np.float32(", ""
        )
        .replace("np.float64(", "")
        .replace(")", "")
        for t, rows in enumerate(frames)
        for b in rows
    ).encode()


class PlainTracker:
    """mambatrack.md, section 4, step by step: one PyTorch call for every track."""

    def __init__(self, model: Any, *, min_history: int, patching: bool = True, max_age: int = 30) -> None:
        self.model, self.min_history, self.patching, self.max_age = model, min_history, patching, max_age
        self.tracks: list[dict[str, Any]] = []
        self.next_id = 1

    def predict(self, history: list[Array]) -> Array:
        """Boxes as centre x, centre y, width, height."""
        if len(history) < self.min_history:
            return history[-1]
        boxes = torch.from_numpy(np.array(history))[None]
        size = np.array([*IMAGE, *IMAGE])
        deltas = (boxes.diff(dim=1).numpy() / size * self.model.scale).astype(np.float32)
        with torch.no_grad():
            box = history[-1] + self.model(torch.from_numpy(deltas))[0].double().numpy() * size / self.model.scale
        return np.concatenate([box[:2], np.maximum(box[2:], 1)])

    def match(self, tracks: list[dict[str, Any]], free: list[Array], least: float) -> list[Array]:
        """Give detections to tracks; returns those that are left."""
        if not tracks or not free:
            return free
        ltwh = lambda b: np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, 2:]], 1)  # noqa: E731
        iou = box_iou(ltwh(np.array([t["box"] for t in tracks])), ltwh(np.array(free)[:, :4]))
        columns = linear_assignment(np.where(iou > 0, 1 - iou, np.inf), 1 - least)
        for track, column in zip(tracks, columns, strict=True):
            if column >= 0:
                track.update(seen=free[column], lost=0, hit=True)
        return [box for j, box in enumerate(free) if j not in columns]

    def update(self, detections: Array) -> list[int]:
        boxes = detections[detections[:, 4] > 0.2].astype(np.float64)
        centred = np.concatenate([(boxes[:, :2] + boxes[:, 2:4]) / 2, boxes[:, 2:4] - boxes[:, :2], boxes[:, 4:]], 1)
        for track in self.tracks:
            track.update(box=self.predict(track["history"]), hit=False)
        first = [track for track in self.tracks if not track["lost"] or not self.patching]
        free = self.match(first, list(centred), 0.3)
        if self.patching:
            free = self.match([track for track in self.tracks if not track["hit"]], free, 0.1)
        for track in self.tracks:
            if track["hit"]:
                track["history"].append(track["seen"][:4])
            else:
                track["lost"] += 1
                if self.patching:
                    track["history"].append(track["box"])
            track["history"] = track["history"][-self.model.window - 1 :]
        self.tracks = [track for track in self.tracks if track["lost"] <= self.max_age]
        for box in free:
            if box[4] > 0.6:
                self.tracks.append({"id": self.next_id, "history": [box[:4]], "lost": 0, "hit": True})
                self.next_id += 1
        return [track["id"] for track in self.tracks if not track["lost"]]


@pytest.mark.parametrize("patching", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_native_tracker_equals_a_plain_one_around_pytorch(patching: bool, seed: int, tiny: Any, package: Path) -> None:
    plain = PlainTracker(tiny, min_history=3, patching=patching, max_age=9)
    tracker = Tracker(package, image_size=IMAGE, min_history=3, patching=patching, max_age=9)
    count = 0
    for detections in scene(seed=seed):
        tracks = tracker.update(detections)
        assert [track["id"] for track in tracks] == plain.update(detections)
        seen = {tuple(np.float32(row[:4]).tolist()) for row in detections}
        assert {tuple(track["box"]) for track in tracks} <= seen  # detections go out, never predictions
        count += len(tracks)
    assert count > 60


def test_python_command_line_and_cpp_give_the_same_tracks(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "det.txt"
    path.write_bytes(det_text(scene()))
    expected = Tracker(package, image_size=IMAGE, min_history=3).update(path)
    assert len(expected) > 60
    pipeline = load_pipeline(package)
    result = pipeline.run({"detections": path.read_bytes()})["json"]
    assert result["tracks"] == expected
    assert toy_pipelines.run_cpp(package, "detections", [path], LIBRARY) == [result]
    assert main(["predict", str(package), str(path), "--json", "--plot", str(tmp_path / "tracks.png")]) == 0
    said = json.loads(capsys.readouterr().out)["results"][0]
    assert said["tracks"] == expected
    assert (tmp_path / "tracks.png").read_bytes().startswith(b"\x89PNG")
    by_frame = Tracker(package, image_size=IMAGE, min_history=3)
    assert [track for tracks in by_frame.sequence(path) for track in tracks] == expected


@pytest.mark.slow
def test_compiled_package_tracks_as_the_native_one(tiny: Any, package: Path, tmp_path: Path) -> None:
    save_package(tiny, tmp_path / "aoti", engine="aoti", head_options={"image_size": list(IMAGE), "min_history": 3})
    path = tmp_path / "det.txt"
    path.write_bytes(det_text(scene()))
    native, compiled = (
        load_pipeline(folder, allow_code=True).run({"detections": path.read_bytes()})["json"]["tracks"]
        for folder in (package, tmp_path / "aoti")
    )
    assert compiled == native


def test_a_package_that_runs_in_pytorch_tracks_as_the_native_one(tiny: Any, package: Path, tmp_path: Path) -> None:
    save_package(tiny, tmp_path / "torch", engine="torch", head_options={"image_size": list(IMAGE), "min_history": 3})
    text = det_text(scene())
    native, in_torch = (
        load_pipeline(folder).run({"detections": text})["json"]["tracks"] for folder in (package, tmp_path / "torch")
    )
    assert [(t["frame"], t["id"], t["box"]) for t in in_torch] == [(t["frame"], t["id"], t["box"]) for t in native]


def test_a_run_that_fails_leaves_the_tracks(package: Path) -> None:
    """In its options, its frames, or, half-way through a sequence, because it is cancelled by what it finds."""
    frames = scene()
    plain, disturbed = load_pipeline(package), load_pipeline(package)
    bad_size: dict[str, Any] = {"image_size": [640, "many"]}
    crowd = np.tile(np.float32([10, 10, 50, 90, 0.9]), (1001, 1))  # more than max_detections, after two good frames
    for t, detections in enumerate(frames):
        if t % 5 == 2:
            with pytest.raises(ValueError, match="image_size"):
                disturbed.run({"detections": detections}, bad_size)
            with pytest.raises(ValueError, match="has no option"):
                disturbed.run({"detections": detections}, {"image_size": [640, 480], "beams": 2})
            with pytest.raises(ValueError, match="more than 1000"):
                disturbed.run({"detections": det_text([detections, detections, crowd])})
        expected = plain.run({"detections": detections})["json"]
        assert disturbed.run({"detections": detections})["json"] == expected


def test_a_head_that_fails_in_the_middle_of_a_sequence_leaves_its_tracks(package: Path) -> None:
    """The head alone, with frames that turn out to be too crowded for the matching."""
    from mambasdk.pipeline import NativeProcessor, load_model

    options = {"image_size": list(IMAGE), "min_history": 3, "max_tracks": 100000, "new_track_score": 0.0}
    heads = [
        NativeProcessor("tracking", "tracker", {"motion": "model", **options}, head=True, model=load_model(package))
        for _ in range(2)
    ]

    def rows(count: int) -> Array:
        x = np.arange(count, dtype=np.float32) * 50
        return np.stack([x, 0 * x, x + 40, 0 * x + 80, 0 * x + 0.9], 1)

    plain, disturbed = heads
    small = {"detections": rows(5), "frames": np.zeros(5, np.int64), "frame_count": np.ones(1, np.int64)}
    for _ in range(2):
        assert plain.run_named(small)["json"] == disturbed.run_named(small)["json"]
    many = rows(9000)  # a pair for each track and detection: beyond the limit in the second frame
    huge = {
        "detections": np.concatenate([many, many]),
        "frames": np.repeat(np.arange(2), 9000),
        "frame_count": np.full(1, 2, np.int64),
    }
    with pytest.raises(ValueError, match="are more pairs than"):
        disturbed.run_named(huge)
    for _ in range(3):
        assert plain.run_named(small)["json"] == disturbed.run_named(small)["json"]


@pytest.fixture
def constant_velocity(tmp_path: Path) -> Path:
    """A package whose model repeats the last delta."""
    program = Program()
    deltas = program.input("deltas", "f32", ["B", "L", 4])
    last = program.reshape(program.slice(deltas, 1, -1, 1), ["B", 4])
    program.output("delta", program.linear(last, "same", bias=False), "f32", ["B", 4])
    folder = toy_pipelines.write_package(
        tmp_path / "velocity",
        program,
        {"same.weight": np.eye(4, dtype=np.float32)},
        processors={"detections": {"kind": "detections", "model_input": "deltas"}},
        head="motion_tracker",
        head_options={"min_history": 2},
        plugin="mambasdk-tracking",
    )
    manifest = json.loads((folder / "mambasdk.json").read_text())
    manifest["config"] = {"window": 10, "scale": 50.0}
    (folder / "mambasdk.json").write_text(json.dumps(manifest))
    return folder


def moving(t: int, width: float = 40) -> Array:
    return np.array([[12 * t, 100, 12 * t + width, 180, 0.9]], np.float32)


def test_predictions_are_carried_on_through_frames_without_detections(constant_velocity: Path) -> None:
    """At 12 pixels a frame the box has left its old place after five unseen frames, or five that nobody looked at."""
    for skipped in (0, 5):
        tracker = Tracker(constant_velocity, image_size=IMAGE, min_history=2)
        for t in range(12):
            assert [track["id"] for track in tracker.update(moving(t))] == [1]
        if not skipped:
            assert [tracker.update(np.zeros((0, 5), np.float32)) for _ in range(5)] == [[]] * 5
        tracks = tracker.update(moving(17), skipped=skipped)
        assert [(track["id"], track["frame"]) for track in tracks] == [(1, 18)]
    still = Tracker(constant_velocity, image_size=IMAGE, min_history=2, patching=False)
    for t in range(12):
        still.update(moving(t))
    for _ in range(5):
        still.update(np.zeros((0, 5), np.float32))
    assert [track["id"] for track in still.update(moving(17))] == [2]  # it waited where frame 13 would have been


def test_the_size_of_the_image_does_not_change_constant_velocity(constant_velocity: Path) -> None:
    for size in ((1920, 1080), (640, 360)):
        pipeline = load_pipeline(constant_velocity)
        text = det_text([moving(t) if t not in range(12, 17) else np.zeros((0, 5), np.float32) for t in range(24)])
        tracks = pipeline.run({"detections": text}, {"image_size": list(size)})["json"]["tracks"]
        assert {track["id"] for track in tracks} == {1}


def test_a_model_that_explodes_leaves_tracks_where_they_are(tiny: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    wild: Any = mambasdk.create_model("mambatrack", d_model=16, n_layer=1, d_state=4, head_hidden=8)
    with torch.no_grad():
        wild.pred_head[3].bias.fill_(float("nan"))
    save_package(wild, tmp_path / "nan", golden=False)
    tracker = Tracker(tmp_path / "nan", image_size=IMAGE)
    standing = np.array([[100, 100, 140, 180, 0.9]], np.float32)
    for _ in range(20):
        assert [track["id"] for track in tracker.update(standing)] == [1]
    with torch.no_grad():
        wild.pred_head[3].bias.copy_(torch.tensor([0.0, 0.0, -50.0, -50.0]))  # shrinks by the whole image
    save_package(wild, tmp_path / "shrinks", golden=False)
    tracker = Tracker(tmp_path / "shrinks", image_size=IMAGE, max_age=100)
    for _ in range(8):
        tracker.update(standing)
    for _ in range(40):
        assert tracker.update(np.zeros((0, 5), np.float32)) == []
    assert tracker.update(standing)[0]["box"] == standing[0, :4].tolist()


def test_crowded_empty_and_degenerate_frames(package: Path) -> None:
    tracker = Tracker(package, image_size=IMAGE, min_history=3)
    x, y = np.meshgrid(np.arange(40) * 50.0, np.arange(25) * 90.0)
    grid = np.stack([x.ravel(), y.ravel(), x.ravel() + 40, y.ravel() + 80, 0 * x.ravel() + 0.9], 1).astype(np.float32)
    for t in range(6):
        tracks = tracker.update(grid + np.float32([t, 0, t, 0, 0]))
        assert [track["id"] for track in tracks] == list(range(1, 1001))
    bad = np.array([[5, 5, 5, 9, 1], [9, 9, 5, 5, 1], [np.nan, 0, 9, 9, 1], [0, 0, np.inf, 9, 1]], np.float32)
    assert tracker.update(bad) == []
    assert tracker.update(b"") == []
    again = tracker.update(grid + np.float32([7, 0, 7, 0, 0]))
    assert np.mean([track["id"] <= 1000 for track in again]) > 0.99


def test_of_two_tracks_on_one_object_the_younger_ends() -> None:
    """A detector changes its mind about the class, so that a second track begins on a lost one."""
    for duplicate_iou, expected in ((1.0, [2]), (0.85, [])):
        tracker = Tracker("none", duplicate_iou=duplicate_iou, class_aware=True)
        seen = np.array([[0, 0, 40, 80, 0.9, 1]], np.float32)
        tracker.update(seen)
        assert [track["id"] for track in tracker.update(seen + np.float32([0, 0, 0, 0, 0, 1]))] == expected
        assert [track["id"] for track in tracker.update(seen)] == [1]


def test_errors_say_what_is_missing(package: Path, tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_size is missing"):
        Tracker(package).update(moving(0))
    with pytest.raises(Exception, match='"kalman", "none" or the folder of a mambatrack package'):
        Tracker(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="min_history: expected at most 7, the boxes that the model looks at, got 8"):
        Tracker(package, image_size=IMAGE, min_history=8)
    with pytest.raises(ValueError, match="skipped"):
        Tracker().update(moving(0), skipped=-1)
    with pytest.raises(ValueError, match=r"image_size: expected 2 numbers|image_size: expected a number"):
        Tracker(package, image_size=(0, 100))
    program, weights = toy_pipelines.linear_classifier("pixels", [1, 4], 3)
    other = toy_pipelines.write_package(
        tmp_path / "other",
        program,
        weights,
        processors={},
        head="motion_tracker",
        head_options={},
        plugin="mambasdk-tracking",
    )
    with pytest.raises(
        ValueError, match="this package holds another model; expected a package of the family mambatrack"
    ):
        Tracker(other, image_size=IMAGE)


def test_head_options_hold_the_image_size_of_a_package(package: Path) -> None:
    assert Manifest.read(package).head_options == {"image_size": list(IMAGE), "min_history": 3}
    table = make_table([1], [-1], [[0, 0, 40, 80]], [0.9])
    assert len(table) == 1
    write_results(package.parent / "det.txt", table)
    assert (
        len(load_pipeline(package).run({"detections": (package.parent / "det.txt").read_bytes()})["json"]["tracks"])
        == 1
    )

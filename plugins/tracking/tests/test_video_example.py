"""The example that tracks rendered videos from pixels: what it draws, a short run, and the whole of it."""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from mambasdk_tracking.mot import read_sequence
from mambasdk_tracking.video import open_video

EXAMPLE = Path(__file__).parents[3] / "examples" / "video_tracking"


@pytest.fixture(scope="module")
def scenes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scenes", EXAMPLE / "scenes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_boxes_hold_what_is_drawn(scenes: ModuleType) -> None:
    """Taking one shape away changes pixels within its box alone, and as many of them as its visible share says."""
    scene = scenes.make_scene(np.random.default_rng(3), 30)
    for frame in (0, 17):
        picture, boxes, seen = scenes.render(scene, frame)
        for index, (box, share) in enumerate(zip(boxes, seen, strict=True)):
            keep = np.arange(len(boxes)) != index
            rest = scenes.Scene(
                scene.paths[keep], scene.kinds[keep], scene.colours[keep], scene.pillars, scene.background
            )
            without, _, _ = scenes.render(rest, frame)
            changed = (np.asarray(picture).astype(int) != np.asarray(without)).any(-1)
            y, x = np.nonzero(changed)
            if len(x):
                assert (x.min(), y.min()) >= (box[0] - 1.5, box[1] - 1.5)
                assert x.max() <= box[2] + 1.5
                assert y.max() <= box[3] + 1.5
            area = (
                np.prod(box[2:] - box[:2])
                * {"disc": np.pi / 4, "square": 1, "triangle": 0.5}[scenes.LABELS[scene.kinds[index]]]
            )
            assert changed.sum() / area == pytest.approx(share, abs=0.12)


def test_shapes_stay_in_the_picture_cross_and_hide(scenes: ModuleType) -> None:
    hidden, crossings = 0, 0
    for seed in range(4):
        scene = scenes.make_scene(np.random.default_rng(seed), 100)
        boxes = scenes.corners(scene.paths)
        assert boxes[..., :2].min() > -1
        assert (boxes[..., 2:] < (scenes.WIDTH + 1, scenes.HEIGHT + 1)).all()
        order = np.argsort(scene.paths[..., 0], 0)  # from left to right, by frame
        crossings += int((np.diff(order, axis=1) != 0).any(0).sum())
        hidden += sum(int((scenes.render(scene, frame)[2] < scenes.VISIBLE).sum()) for frame in range(0, 100, 10))
    assert crossings > 20
    assert 5 < hidden < 0.4 * 4 * 10 * scenes.SHAPES


@pytest.mark.slow
def test_a_short_run_has_everything_but_the_goal(tmp_path: Path) -> None:
    pytest.importorskip("mambasdk_vision")
    few = ["--images", "8", "--steps", "2", "--motion-steps", "2", "--videos", "1", "--frames", "12", "--threads", "1"]
    command = [sys.executable, str(EXAMPLE / "video_tracking.py"), "--out", str(tmp_path), *few]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not above the Kalman filter" in done.stderr, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["metrics"]) == ["MambaTrack", "IoU + Kalman filter", "IoU alone"]
    sequence = read_sequence(tmp_path / "videos" / "video-1")
    assert (sequence.info.length, sequence.info.image_size) == (12, (320, 192))
    assert open_video(tmp_path / "videos" / "video-1").length == 12
    with Image.open(tmp_path / "tracked.gif") as drawn:
        assert drawn.n_frames == 12


@pytest.mark.slow
def test_from_pixels_above_the_kalman_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mambasdk_vision")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    start = time.process_time()
    report = runpy.run_path(str(EXAMPLE / "video_tracking.py"))["main"](["--out", str(tmp_path)])
    assert time.process_time() - start < 2 * 240  # four minutes of two cores
    learned, kalman = report["metrics"]["MambaTrack"], report["metrics"]["IoU + Kalman filter"]
    for name in ("HOTA", "IDF1", "MOTA"):
        assert learned[name] > kalman[name]

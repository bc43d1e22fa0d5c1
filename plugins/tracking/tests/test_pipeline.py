"""Detections in, tracks out: a toy native package from Python, from the command line and from C++."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_pipelines

from mambasdk.command_line import main
from mambasdk.lowering import Program
from mambasdk.pipeline import load_pipeline
from mambasdk_tracking import Tracker
from mambasdk_tracking.plugin import LIBRARY


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A model that halves every score, by a linear map of the rows."""
    program = Program()
    x = program.input("detections", "f32", ["N", 6])
    program.output("rescored", program.linear(x, "map", bias=False), "f32", ["N", 6])
    weights = {"map.weight": np.diag(np.float32([1, 1, 1, 1, 0.5, 1]))}
    return toy_pipelines.write_package(
        tmp_path / "package",
        program,
        weights,
        processors={"detections": {"kind": "detections"}},
        head="tracker",
        head_options={"input": "rescored", "new_track_score": 0.3, "score_threshold": 0.1},
        plugin="mambasdk-tracking",
    )


def test_tracks_in_python_command_line_and_cpp(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{t + 1},-1,{60 * k + 4 * t},{50 * k},40,80,0.8" for t in range(12) for k in range(4) if (t + k) % 5]
    path = tmp_path / "det.txt"
    path.write_text("\n".join(rows))
    pipeline = load_pipeline(package)
    result = pipeline.run({"detections": path.read_bytes()})["json"]
    expected = Tracker(new_track_score=0.6, score_threshold=0.2).update(path)
    assert [(t["frame"], t["id"], t["box"]) for t in result["tracks"]] == [
        (t["frame"], t["id"], t["box"]) for t in expected
    ]
    assert {round(track["score"], 6) for track in result["tracks"]} == {0.4}
    assert toy_pipelines.run_cpp(package, "detections", [path, path], LIBRARY) == [result, result]
    assert main(["predict", str(package), str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == [{"file": str(path), **result}]
    assert main(["predict", str(package), str(path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(expected)


def test_state_is_kept_over_runs_until_reset(package: Path) -> None:
    pipeline = load_pipeline(package)
    boxes = np.array([[0, 0, 40, 80, 0.9]], np.float32)
    for t in range(3):
        tracks = pipeline.run({"detections": boxes + np.float32([3 * t, 0, 3 * t, 0, 0])})["json"]["tracks"]
        assert [(track["id"], track["frame"]) for track in tracks] == [(1, t + 1)]
    assert pipeline.run({"detections": np.zeros((0, 5), np.float32)})["json"]["tracks"] == []
    assert pipeline.run({"detections": boxes + 6})["json"]["tracks"][0]["frame"] == 5
    pipeline.reset()
    assert pipeline.run({"detections": boxes})["json"]["tracks"][0]["frame"] == 1

"""Metrics: equal to TrackEval's golden to the last bit, their invariants, MOTChallenge's rules and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mambasdk.errors import InvalidArgumentError
from mambasdk_tracking.metrics import evaluate, evaluate_folder, format_table, preprocess
from mambasdk_tracking.mot import (
    SequenceInfo,
    Table,
    make_table,
    read_info,
    read_sequence,
    read_table,
    write_ground_truth,
    write_info,
    write_results,
)


@pytest.fixture
def tables(golden: Callable[[str], Path]) -> tuple[Table, Table]:
    folder = golden("mambatrack")
    return read_table(folder / "mot_gt.txt", ground_truth=True), read_table(folder / "mot_pred.txt")


def test_metrics_equal_the_golden(tables: tuple[Table, Table], golden: Callable[[str], Path]) -> None:
    expected = json.loads((golden("mambatrack") / "mot_metrics.json").read_text())["metrics"]
    result = evaluate({"sequence": tables})
    np.testing.assert_allclose(result.hota_per_alpha, expected.pop("HOTA_per_alpha"), rtol=0, atol=1e-9)
    assert set(expected) == set(result.total)
    for name, value in expected.items():
        assert result.total[name] == pytest.approx(value, abs=1e-9), name
        assert result.sequences["sequence"][name] == result.total[name]


def write_golden(root: Path) -> None:
    """Files of folder `mambatrack`: another scene, and what `evaluate` says of it."""
    folder = root / "mambatrack"
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(12)
    objects, frames = 6, 44
    start, speed = chance.uniform(50, 900, (objects, 2)), chance.uniform(-5, 5, (objects, 2))
    truth, tracks = [], []
    for frame in range(1, frames + 1):
        for one in range(objects):
            box = [*(start[one] + speed[one] * frame), 60, 140]
            truth.append([frame, one + 1, *np.round(box, 2), 1, 1, 1])
            seen = np.array(box) + chance.normal(0, [6, 9, 3, 5])
            if chance.random() < 0.85:
                name = 10 + one + objects * (frame > 20 + 3 * one)  # each is lost once and found under another id
                tracks.append([frame, name, *np.round(seen, 2), np.round(chance.uniform(0.3, 1), 3), -1, -1, -1])
    for file, rows in (("mot_gt.txt", truth), ("mot_pred.txt", tracks)):
        np.savetxt(folder / file, rows, fmt="%.12g", delimiter=",")
    given = read_table(folder / "mot_gt.txt", ground_truth=True), read_table(folder / "mot_pred.txt")
    result = evaluate({"sequence": given})
    metrics = {**result.total, "HOTA_per_alpha": list(result.hota_per_alpha)}
    (folder / "mot_metrics.json").write_text(json.dumps({"metrics": metrics}, indent=1, default=float))


def test_names_of_ids_and_order_of_rows_do_not_matter(tables: tuple[Table, Table]) -> None:
    truth, tracks = tables
    expected = evaluate({"a": tables}).total
    chance = np.random.default_rng(0)
    names = chance.permutation(100000)[: tracks.ids.max() + 1]
    rows = chance.permutation(len(tracks))
    shuffled = make_table(tracks.frames[rows], names[tracks.ids[rows]], tracks.boxes[rows], tracks.values[rows])
    found = evaluate({"a": (truth, shuffled)}).total
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_ground_truth_itself_is_perfect_and_nothing_is_worth_nothing(tables: tuple[Table, Table]) -> None:
    truth, _ = tables
    best = evaluate({"a": (truth, truth)}).total
    assert {best[name] for name in ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1")} == {1.0}
    assert best["IDSW"] == best["Frag"] == best["CLR_FP"] == best["IDFN"] == 0
    nothing = evaluate({"a": (truth, truth.select(slice(0, 0)))}).total
    assert nothing["HOTA"] == nothing["IDF1"] == nothing["MOTA"] == 0
    assert nothing["CLR_FN"] == nothing["IDFN"] == len(truth)
    empty = truth.select(slice(0, 0))
    assert evaluate({"a": (empty, empty)}).total["HOTA"] == 0
    only_claims = evaluate({"a": (empty, truth), "b": (empty, truth)})
    assert only_claims.total["CLR_FP"] == 2 * len(truth)
    for values in (only_claims.total, *only_claims.sequences.values()):
        assert values["MOTA"] == values["HOTA"] == values["IDF1"] == 0  # as TrackEval; not -300 %


def test_sequences_together_are_weighted_by_their_counts(tables: tuple[Table, Table]) -> None:
    truth, tracks = tables
    half = truth.frame_count // 2
    parts = {
        name: (truth.select(rows(truth)), tracks.select(rows(tracks)))
        for name, rows in (("a", lambda t: t.frames <= half), ("b", lambda t: t.frames > half))
    }
    result = evaluate(parts)
    twice = evaluate({"x": parts["a"], "y": parts["a"]})
    for name in ("HOTA", "AssA", "MOTA", "IDF1", "LocA"):
        assert twice.total[name] == pytest.approx(result.sequences["a"][name], abs=1e-12)
    for name in ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "IDTP", "MT"):
        assert result.total[name] == sum(values[name] for values in result.sequences.values())
    assert format_table(result).splitlines()[-1].startswith("all ")


def test_switches_and_fragments_are_counted() -> None:
    """Of two objects one changes its track at frame 4 and is lost in frames 6 and 7; nine frames."""
    frames, other = np.arange(1, 10), np.arange(10, 19)
    boxes = np.concatenate([np.tile([0.0, 0, 10, 20], (9, 1)), np.tile([500.0, 0, 10, 20], (9, 1))])
    truth = make_table(np.tile(frames, 2), np.repeat([1, 2], 9), boxes)
    ids = np.concatenate([np.where(frames < 4, 5, 6), np.full(9, 7)])
    kept = np.isin(np.concatenate([frames, other]), (6, 7), invert=True)
    tracks = make_table(np.tile(frames, 2)[kept], ids[kept], boxes[kept])
    found = evaluate({"a": (truth, tracks)}).total
    assert (found["IDSW"], found["Frag"], found["CLR_FN"], found["CLR_FP"]) == (1, 1, 2, 0)
    assert found["MOTA"] == pytest.approx((16 - 1) / 18)
    assert found["IDTP"] == 9 + 4  # one identity for the object: the longer track
    assert (found["MT"], found["PT"], found["ML"]) == (1, 1, 0)  # 9 and 7 of 9 frames


def test_benchmark_rules() -> None:
    """Frame 1: a pedestrian, a reflection (class 12), a vehicle (class 6), an ignored one; a track on each."""
    boxes = np.array([[0, 0, 10, 20], [100, 0, 10, 20], [200, 0, 10, 20], [300, 0, 10, 20]], float)
    truth = make_table([1] * 4, [1, 2, 3, 4], boxes, [1, 0, 0, 0], [1, 12, 6, 1])
    tracks = make_table([1] * 4, [1, 2, 3, 4], boxes)
    kept = {name: preprocess(truth, tracks, name)[1].ids.tolist() for name in ("plain", "mot15", "mot17", "mot20")}
    assert kept == {"plain": [1, 2, 3, 4], "mot15": [1, 2, 3, 4], "mot17": [1, 3, 4], "mot20": [1, 4]}
    assert all(preprocess(truth, tracks, name)[0].ids.tolist() == [1] for name in kept)
    assert evaluate({"a": (truth, tracks)}, "mot20").total["CLR_FP"] == 1  # on the ignored pedestrian
    with pytest.raises(InvalidArgumentError, match="mot15, mot17 or mot20"):
        preprocess(truth, tracks, "mot99")


@pytest.mark.parametrize("wrong", [-1, 0, 14])
def test_ground_truth_of_unknown_classes_is_refused(wrong: int) -> None:
    boxes = np.array([[0, 0, 10, 20], [100, 0, 10, 20]], float)
    truth = make_table([1, 1], [1, 2], boxes, classes=[1, wrong])
    for benchmark in ("mot17", "mot20"):
        with pytest.raises(InvalidArgumentError, match=rf"{benchmark}.*classes.*expected 1 to 13, got {wrong}"):
            evaluate({"a": (truth, truth)}, benchmark)  # type: ignore[arg-type]
    assert evaluate({"a": (truth, truth)}).total["MOTA"] == 1


def test_frames_without_boxes_cost_nothing() -> None:
    boxes = [[0, 0, 10, 20]] * 3
    near, far = (make_table([1, 2, last], [1, 1, 1], boxes) for last in (3, 9_000_000))
    assert evaluate({"a": (far, far)}).total == evaluate({"a": (near, near)}).total


def test_files_round_trip(tables: tuple[Table, Table], tmp_path: Path) -> None:
    truth, tracks = tables
    folder = tmp_path / "video"
    write_info(folder, SequenceInfo("video", 60, (1920, 1080), 25.0))
    write_ground_truth(folder / "gt" / "gt.txt", truth)
    write_results(tmp_path / "results" / "video.txt", tracks)
    assert read_info(folder) == SequenceInfo("video", 60, (1920, 1080), 25.0)
    again = read_sequence(folder).ground_truth
    assert again is not None
    for ours, theirs in zip(vars(again).values(), vars(truth).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert evaluate_folder(tmp_path, tmp_path / "results").total == evaluate({"a": tables}).total
    with pytest.raises(InvalidArgumentError, match=r"no results video\.txt"):
        evaluate_folder(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n", "too few columns"),
        ("1,2,a,4,5,6\n", "no table of numbers"),
        ("0,2,3,4,5,6\n", "row 1: frames are whole numbers from 1"),
        ("1,2.5,3,4,5,6\n", "row 1: frames"),
        ("1,2,3,4,5,6\n1,2,3,4,5,6\n", "frame 1 has id 2 twice"),
        ("1,1,3,4,5,6\n1,2,nan,4,5,6\n", "row 2: has a number that is not finite"),
        ("1,2,3,4,inf,6\n", "row 1: has a number that is not finite"),
        ("1e18,2,3,4,5,6\n", r"row 1: frame 1e\+18 .*expected frames up to 10,000,000"),
        ("1,1e30,3,4,5,6\n", "row 1: .*id 1e.30 are too large"),
    ],
)
def test_damaged_files_are_clear_errors(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text(text)
    with pytest.raises(InvalidArgumentError, match=message):
        read_table(tmp_path / "gt.txt", ground_truth=True)


def test_results_of_other_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tracks.txt").write_text("1,1,3,4,5,6,0.9,-1,-1,-1\n2,1,3,4,5,6,0.9,2,-1,-1\n")
    with pytest.raises(InvalidArgumentError, match=r"row 2: a result of class 2: expected 1 \(pedestrian\) or -1"):
        read_table(tmp_path / "tracks.txt", results=True)
    assert len(read_table(tmp_path / "tracks.txt")) == 2  # in detections the column is a position


def test_missing_files_ids_and_sizes_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        read_table(tmp_path / "none.txt")
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nname=x\nseqLength=5\n")
    with pytest.raises(InvalidArgumentError, match=r"expected \[Sequence\] with seqLength, imWidth and imHeight"):
        read_info(tmp_path)
    (tmp_path / "empty.txt").write_text("")
    assert len(read_table(tmp_path / "empty.txt")) == 0
    detections = make_table([1], [-1], [[0, 0, 1, 1]])
    with pytest.raises(InvalidArgumentError, match="are these detections, not tracks"):
        evaluate({"a": (detections, detections)})
    with pytest.raises(InvalidArgumentError, match="no sequences"):
        evaluate({})

"""The tracker's rules: identities, life cycle, both rounds of association, files, and odd frames."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mambasdk_tracking import DetectionsProcessor, Tracker

Array = npt.NDArray[np.float32]


def box(
    x: float, y: float = 100, score: float = 0.9, width: float = 40, height: float = 80, label: int = 0
) -> list[float]:
    return [x, y, x + width, y + height, score, label]


def frame(*boxes: list[float]) -> Array:
    return np.array(boxes, np.float32).reshape(-1, 6)


def ids(tracks: list[dict[str, Any]]) -> list[int]:
    return [track["id"] for track in tracks]


def test_objects_that_cross_keep_their_identities() -> None:
    tracker = Tracker()
    for t in range(40):
        right, left = box(10 + 8 * t, y=100), box(330 - 8 * t, y=150)
        tracks = tracker.update(frame(right, left))
        assert ids(tracks) == [1, 2], t
        assert tracks[0]["box"] == pytest.approx(right[:4])
        assert tracks[1]["box"] == pytest.approx(left[:4])
        assert tracks[0]["frame"] == t + 1


def test_motion_bridges_an_occlusion() -> None:
    """Five unseen frames at 12 pixels each: the box has left its old place, the filter has followed it."""
    found = {}
    for motion in ("kalman", "none"):
        tracker = Tracker(motion=motion)
        for t in range(12):
            tracker.update(frame(box(12 * t)))
        for _ in range(5):
            assert tracker.update(frame()) == []
        found[motion] = ids(tracker.update(frame(box(12 * 17))))
    assert found == {"kalman": [1], "none": [2]}


def test_the_second_round_takes_what_the_first_refuses() -> None:
    for iou_second, expected in ((0.1, [1]), (0.3, [2])):
        tracker = Tracker(motion="none", iou_second=iou_second)
        tracker.update(frame(box(0)))
        assert ids(tracker.update(frame(box(26)))) == expected  # IoU 14 / 66 = 0.21


def test_ends_after_max_age() -> None:
    for missed, expected in ((3, [1]), (4, [2])):
        tracker = Tracker(max_age=3)
        tracker.update(frame(box(0)))
        for _ in range(missed):
            tracker.update(frame())
        assert ids(tracker.update(frame(box(0)))) == expected


def test_tentative_tracks_are_silent_and_forgotten_at_the_first_miss() -> None:
    tracker = Tracker(min_hits=3)
    assert ids(tracker.update(frame(box(0)))) == [1]  # the first frame confirms
    assert ids(tracker.update(frame(box(0), box(300)))) == [1]
    assert ids(tracker.update(frame(box(0), box(300)))) == [1]
    assert ids(tracker.update(frame(box(0), box(300)))) == [1, 2]
    assert ids(tracker.update(frame(box(0), box(300), box(600)))) == [1, 2]
    tracker.update(frame(box(0), box(300)))
    for _ in range(2):
        assert ids(tracker.update(frame(box(0), box(300), box(600)))) == [1, 2]
    assert ids(tracker.update(frame(box(0), box(300), box(600)))) == [1, 2, 4]


def test_scores_decide_who_matches_and_who_begins() -> None:
    tracker = Tracker()
    assert tracker.update(frame(box(0, score=0.5))) == []
    assert ids(tracker.update(frame(box(0, score=0.7)))) == [1]
    assert ids(tracker.update(frame(box(0, score=0.3)))) == [1]
    assert tracker.update(frame(box(0, score=0.1))) == []


def test_classes_match_only_their_own_where_asked() -> None:
    for aware, expected in ((False, [1]), (True, [2])):
        tracker = Tracker(class_aware=aware)
        tracker.update(frame(box(0, label=3)))
        assert ids(tracker.update(frame(box(0, label=4)))) == expected


def test_reset_and_instances_of_their_own() -> None:
    tracker, other = Tracker(), Tracker()
    tracker.update(frame(box(0), box(300)))
    assert ids(other.update(frame(box(0)))) == [1]
    tracker.reset()
    again = tracker.update(frame(box(900)))
    assert (again[0]["id"], again[0]["frame"]) == (1, 1)


def mot_text(frames: dict[int, Array]) -> str:
    """The frames in any order, each one's boxes in theirs."""
    numbers = list(frames)
    random.Random(0).shuffle(numbers)
    rows = [
        f"{number},-1,{b[0]:.2f},{b[1]:.2f},{b[2] - b[0]:.2f},{b[3] - b[1]:.2f},{b[4]:.3f},-1,-1,-1"
        for number in numbers
        for b in frames[number]
    ]
    return "\n".join(rows) + "\n"


def test_a_file_and_its_frames_give_the_same_tracks(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    frames = {
        t + 1: frame(*(box(40 * k + 3 * t, y=100 * k) for k in range(6) if chance.random() > 0.2))
        for t in range(30)
        if t not in (10, 11)
    }
    text = mot_text(frames)
    (tmp_path / "det.txt").write_text(text.replace("\n", "\r\n"))
    whole = Tracker().update(tmp_path / "det.txt")
    tracker = Tracker()
    one_by_one = [track for t in range(1, 31) for track in tracker.update(frames.get(t, frame()))]
    key = lambda track: (track["frame"], track["id"])  # noqa: E731
    assert list(map(key, whole)) == list(map(key, one_by_one))
    np.testing.assert_allclose([t["box"] for t in whole], [t["box"] for t in one_by_one], atol=0.02)
    assert {track["frame"] for track in whole} <= set(frames)
    assert Tracker().update(text.encode()) == whole


def test_the_table_of_detections() -> None:
    made = DetectionsProcessor(box_format="xywh")(np.array([[1, 2, 3, 4, 0.5]], np.float32))
    np.testing.assert_array_equal(made["detections"], np.array([[1, 2, 4, 6, 0.5, 0]], np.float32))
    assert (made["frames"].tolist(), made["frame_count"].tolist()) == ([0], [1])
    made = DetectionsProcessor()(b"3,-1,1,2,3,4,0.5\n\n 1 , 7 , 1, 2, 3, 4\n3,-1,1,2,0,4,0.9\n")
    assert made["detections"].tolist() == [[1, 2, 4, 6, 1, 0], [1, 2, 4, 6, 0.5, 0]]
    assert (made["frames"].tolist(), made["frame_count"].tolist()) == ([0, 2], [3])


def test_empty_crowded_and_degenerate_frames() -> None:
    tracker = Tracker()
    assert tracker.update(b"") == []
    assert tracker.update(np.zeros((0, 5), np.float32)) == []
    bad = [[5, 5, 5, 9, 1, 0], [9, 9, 5, 5, 1, 0], [np.nan, 0, 9, 9, 1, 0], [0, 0, np.inf, 9, 1, 0]]
    assert tracker.update(np.array(bad, np.float32)) == []
    grid = frame(*(box(50 * i, y=90 * j) for i in range(30) for j in range(30)))
    assert ids(tracker.update(grid)) == list(range(1, 901))
    assert ids(tracker.update(grid + np.float32([2, 1, 2, 1, 0, 0]))) == list(range(1, 901))
    with pytest.raises(ValueError, match="has more than 1000; raise max_detections"):
        tracker.update(np.tile(grid, (2, 1)))


BAD_TEXTS = [
    (b"1,-1,2,3,4", "line 1: too few numbers, expected frame,id,left"),
    (b"1,-1,2,3,4,5,1\n2,-1,a,3,4,5,1", "line 2: bad number"),
    (b"0,-1,2,3,4,5,1", "line 1: frames are whole numbers from 1"),
    (b"1.5,-1,2,3,4,5,1", "frames are whole numbers"),
    (b"nan,-1,2,3,4,5,1", "frames are whole numbers"),
    (b"99999999999,-1,2,3,4,5,1", "its frame is beyond 1000000; raise max_frames"),
    (b"\xff\xfe\0\0", "bad number"),
]


BAD_TEXTS += [
    (f"1,-1,2,3,4,5,1\n1,-1,2,{value},4,5,1".encode(), "line 2: a number is (not finite|out of range)")
    for value in ("nan", "inf", "-inf", "1e39", "1e999")
]
BAD_TEXTS += [(b"1,-1,2,3,4,5,nan", "line 1: a number is not finite")]


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS)
def test_damaged_texts_are_clear_errors(text: bytes, message: str) -> None:
    with pytest.raises(Exception, match=message):
        Tracker().update(text)


def test_a_byte_order_mark_and_comments_are_passed_over() -> None:
    plain = b"1,-1,10,20,30,40,0.9\n2,-1,11,20,30,40,0.9"
    expected = Tracker().update(plain)
    assert len(expected) == 2
    for text in (
        b"\xef\xbb\xbf" + plain,
        b"# frame,id,left,top,width,height,score\n" + plain.replace(b"\n", b"\n  # more\n\n"),
        b"\xef\xbb\xbf#\r\n" + plain.replace(b"\n", b"\r\n") + b"\r\n",
    ):
        assert Tracker().update(text) == expected


def test_a_confidence_of_minus_one_is_none_given() -> None:
    rows = [f"{t + 1},-1,{10 + t},20,30,40,{{}},-1,-1,-1" for t in range(5)]
    tracks = Tracker().update("\n".join(row.format(-1) for row in rows).encode())
    assert (ids(tracks), {track["score"] for track in tracks}) == ([1] * 5, {1.0})
    mixed = [rows[0].format(-1), *(row.format(0.5) for row in rows[1:])]
    assert DetectionsProcessor()("\n".join(mixed).encode())["detections"][:2, 4].tolist() == [1, 0.5]
    # A detector whose scores are negative means what it says.
    below = [rows[0].format(-1), *(row.format(-0.5) for row in rows[1:])]
    assert DetectionsProcessor()("\n".join(below).encode())["detections"][:2, 4].tolist() == [-1, -0.5]


def test_float64_detections_are_float32_ones() -> None:
    boxes = frame(box(10.25), box(100.5, score=0.75))
    assert Tracker().update(boxes.astype(np.float64)) == Tracker().update(boxes)
    for dtype in (np.float32, np.float64):
        made = DetectionsProcessor(box_format="xywh")(boxes.astype(dtype))
        assert made["detections"].dtype == np.float32


def test_a_crowd_of_overlapping_boxes_is_refused_in_time() -> None:
    """A thousand boxes on one another by frame: the best matching would take minutes."""
    chance = np.random.default_rng(0)
    rows = [
        f"{t + 1},-1,{x:.1f},{y:.1f},{w:.1f},{h:.1f},0.9"
        for t in range(10)
        for x, y, w, h in zip(*chance.uniform(0, 50, (2, 1000)), *chance.uniform(900, 1000, (2, 1000)), strict=True)
    ]
    start = time.perf_counter()
    try:
        Tracker().update("\n".join(rows).encode())
    except ValueError as error:
        assert "boxes that all overlap take too long to match" in str(error)  # noqa: PT017
    assert time.perf_counter() - start < 30


def test_wrong_arrays_and_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected f32 \(n, 4 to 6\), .* got \(2, 3\)"):
        Tracker().update(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match='tracker has no option "iou"'):
        Tracker(iou=0.5)

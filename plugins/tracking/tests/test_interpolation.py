"""Gaps of tracks are filled on straight lines, and nothing else changes; frames are drawn where they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mambasdk.errors import InvalidArgumentError
from mambasdk_tracking.frames import colour_of, draw_frames
from mambasdk_tracking.interpolation import interpolate
from mambasdk_tracking.metrics import evaluate
from mambasdk_tracking.mot import SequenceInfo, Table, make_table
from mambasdk_tracking.video import frame_files, open_video


def straight(ids: int = 3, length: int = 40) -> Table:
    """Boxes that move and grow evenly."""
    frames = np.tile(np.arange(1, length + 1), ids)
    names = np.repeat(np.arange(ids) + 7, length)
    start, step = np.array([10.0, 20, 30, 60]), np.array([2.0, 1, 0.5, 0.25])
    return make_table(frames, names, start + 100 * (names - 7)[:, None] + frames[:, None] * step)


def test_gaps_in_even_motion_are_filled_exactly() -> None:
    whole = straight()
    kept = np.random.default_rng(0).random(len(whole)) > 0.3
    kept |= np.isin(whole.frames, (1, 40))  # nothing is drawn beyond the ends
    filled = interpolate(whole.select(kept), 40)
    order_a, order_b = (np.lexsort((t.ids, t.frames)) for t in (filled, whole))
    assert len(filled) == len(whole)
    np.testing.assert_array_equal(filled.ids[order_a], whole.ids[order_b])
    np.testing.assert_allclose(filled.boxes[order_a], whole.boxes[order_b], atol=1e-9)
    assert evaluate({"a": (whole, filled)}).total["MOTA"] == 1


@pytest.mark.parametrize(("gap", "max_gap", "filled"), [(5, 5, 5), (5, 4, 0), (1, 20, 1), (5, 0, 0)])
def test_only_gaps_up_to_the_limit_are_filled(gap: int, max_gap: int, filled: int) -> None:
    tracks = make_table([1, 2 + gap, 2 + gap], [1, 1, 2], [[0, 0, 1, 1], [6, 0, 1, 1], [0, 0, 1, 1]], [0.5, 1, 1])
    found = interpolate(tracks, max_gap)
    assert len(found) == 3 + filled
    if filled:
        added = found.select((found.frames > 1) & (found.frames < 2 + gap))
        assert set(added.ids) == {1}
        np.testing.assert_allclose(added.values, 0.5 + 0.5 * np.arange(1, gap + 1) / (gap + 1))


def test_what_cannot_be_interpolated_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="bad max_gap: expected 0 or more, got -1"):
        interpolate(straight(), -1)
    with pytest.raises(InvalidArgumentError, match="rows without an id"):
        interpolate(make_table([1], [-1], [[0, 0, 1, 1]]))
    assert len(interpolate(straight(0))) == 0


def test_tracks_are_drawn_on_their_frames(tmp_path: Path) -> None:
    video = tmp_path / "video"
    (video / "img1").mkdir(parents=True)
    for number in (1, 2, 3):
        Image.new("RGB", (200, 160), (10 * number, 0, 0)).save(video / "img1" / f"{number:06}.jpg")
    tracks = make_table([1, 3], [4, 4], [[20, 30, 60, 80], [60, 30, 60, 80]])
    out = draw_frames(tmp_path / "drawn", tracks, video=open_video(video))
    pictures = [np.asarray(Image.open(path)).astype(int) for path in frame_files(out)]
    assert [picture.shape for picture in pictures] == [(160, 200, 3)] * 3
    colour = np.array(colour_of(4))
    for picture, left in ((pictures[0], 20), (pictures[2], 60)):
        assert np.abs(picture[70, left : left + 2].mean(0) - colour).max() < 60  # the left edge of the box
    assert np.abs(pictures[1][:, :, 1:]).max() < 60  # no box in frame 2
    gif = draw_frames(tmp_path / "drawn.gif", tracks, info=SequenceInfo("video", 3, (200, 160), 10), count=3)
    with Image.open(gif) as file:
        assert (file.n_frames, file.size, file.info["duration"]) == (3, (200, 160), 100)
    with pytest.raises(InvalidArgumentError, match="no frames"):
        frame_files(tmp_path)
    (video / "img1" / "000002.jpg").write_bytes(b"no picture")
    with pytest.raises(InvalidArgumentError, match=r"000002\.jpg: cannot be read"):
        draw_frames(tmp_path / "again", tracks, video=open_video(video))

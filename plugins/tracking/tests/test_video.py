"""Frames of video files and of folders of pictures; what cannot be read; drawing on them."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import moving_squares
import numpy as np
import pytest
from PIL import Image

from mambasdk.errors import InvalidArgumentError, MissingDependencyError
from mambasdk_tracking.frames import colour_of, draw_frames
from mambasdk_tracking.interpolation import filled_gaps
from mambasdk_tracking.mot import SequenceInfo, make_table, write_info
from mambasdk_tracking.video import PictureFolder, open_video
from mambasdk_tracking.video_files import write_video


def encoded(path: Path, sizes: list[tuple[int, int]], codec: str = "mpeg4") -> Path:
    """A video file of grey frames, 8 times their number."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.width, stream.height = sizes[0] if sizes else (64, 48)
        container.start_encoding()
        for number, (width, height) in enumerate(sizes, 1):
            pixels = np.full((height, width, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_frames_of_a_file(tmp_path: Path) -> None:
    video = open_video(encoded(tmp_path / "a.mp4", [(64, 48)] * 20))
    assert (video.name, video.size, video.frame_rate, video.length) == ("a", (64, 48), 25, 20)
    for _ in range(2):  # as often as one likes
        frames = list(video.frames())
        assert [frame.number for frame in frames] == list(range(1, 21))
        for frame in frames:
            data: Any = frame.data()
            assert (data.dtype, data.shape) == (np.uint8, (48, 64, 3))
            assert abs(data.mean() - 8 * frame.number) < 4  # neighbours are 8 apart
            np.testing.assert_array_equal(np.asarray(frame.picture()), data)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_file_that_says_how_it_is_turned(degrees: int, tmp_path: Path) -> None:
    """A quarter of the picture is white: after so many degrees against the clock it is where it was seen."""
    av = pytest.importorskip("av")
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = 255
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV writes no rotation")
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    video = open_video(tmp_path / "a.mp4")
    expected = np.rot90(pixels, degrees // 90)
    assert video.size == expected.shape[1::-1]
    [frame] = video.frames()
    assert np.abs(np.asarray(frame.picture()).astype(int) - expected).mean() < 4


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    """Names sort as numbers, a turned photo counts as it is seen, and the pipeline gets the files themselves."""
    for number in (1, 2, 10):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (20, 30)).save(tmp_path / "11.jpg", exif=exif)
    (tmp_path / "notes.txt").write_text("no picture")
    video = open_video(tmp_path)
    assert (video.name, video.size, video.frame_rate, video.length) == (tmp_path.name, (30, 20), 30, 4)
    frames = list(video.frames())
    assert [Path(frame.where).name for frame in frames] == ["1.png", "2.png", "10.png", "11.jpg"]
    for frame in frames:
        assert frame.data() == Path(frame.where).read_bytes()
        assert frame.picture().size == (30, 20)


def test_a_motchallenge_folder_says_its_rate(tmp_path: Path) -> None:
    moving_squares.write_pictures(tmp_path / "walk" / "img1", ".jpg")
    write_info(tmp_path / "walk", SequenceInfo("walk", 24, (128, 64), 12.5))
    for place in (tmp_path / "walk", tmp_path / "walk" / "img1"):
        video = PictureFolder(place)
        assert (video.name, video.frame_rate, video.length) == ("walk", 12.5, 24)


def test_frames_that_change_their_size(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "1.png")
    Image.new("RGB", (20, 30)).save(tmp_path / "2.png")
    frames = list(open_video(tmp_path).frames())
    frames[0].data()
    for use in (frames[1].data, frames[1].picture):
        with pytest.raises(
            InvalidArgumentError, match=r"2\.png: the frames change their size: expected 30x20, .* got 20x30; track the"
        ):
            use()
    # A stream of JPEG pictures may change its size, too.
    first = encoded(tmp_path / "a.mjpeg", [(64, 48)] * 3, "mjpeg")
    both = tmp_path / "both.mjpeg"
    both.write_bytes(first.read_bytes() + encoded(tmp_path / "b.mjpeg", [(32, 48)] * 2, "mjpeg").read_bytes())
    with pytest.raises(InvalidArgumentError, match=r"both\.mjpeg: frame 4: the frames change .* got 32x48"):
        list(open_video(both).frames())


def test_what_is_no_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with pytest.raises(InvalidArgumentError, match=r"none\.mp4: no such file or folder"):
        open_video(tmp_path / "none.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgumentError, match="no frames: expected pictures"):
        open_video(tmp_path / "empty")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    with pytest.raises(InvalidArgumentError, match=r"text\.mp4: no video that can be read: Invalid data"):
        open_video(tmp_path / "text.mp4")
    whole = encoded(tmp_path / "whole.mp4", [(64, 48)] * 20).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidArgumentError, match=r"half\.mp4: no video that can be read"):
        open_video(tmp_path / "half.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(
        InvalidArgumentError, match=r"sound\.mp4: it has no pictures: expected a video stream, got audio"
    ):
        open_video(tmp_path / "sound.mp4")
    encoded(tmp_path / "nothing.mkv", [])
    with pytest.raises(InvalidArgumentError, match=r"nothing\.mkv: (no frames|no video|it has no pictures)"):
        open_video(tmp_path / "nothing.mkv")


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    whole = encoded(tmp_path / "a.avi", [(64, 48)] * 6, "mjpeg")
    data = bytearray(whole.read_bytes())
    starts = [at for at in range(len(data) - 2) if data[at : at + 3] == b"\xff\xd8\xff"]
    data[starts[3] + 2 : starts[4] - 16] = bytes(starts[4] - 18 - starts[3])
    whole.write_bytes(data)
    with pytest.raises(InvalidArgumentError, match=r"a\.avi: frame 4 cannot be decoded: .*; the 3 before it can be"):
        list(open_video(whole).frames())
    assert len(list(itertools.islice(open_video(whole).frames(), 3))) == 3


def test_without_pyav_there_is_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"video")
    for use in (
        lambda: open_video(tmp_path / "a.mp4"),
        lambda: draw_frames(tmp_path / "b.mp4", moving_squares.truth()),
    ):
        with pytest.raises(MissingDependencyError, match=r"needs av.*mambasdk-tracking\[video\].*folder of pictures"):
            use()
    moving_squares.write_pictures(tmp_path / "frames")
    assert open_video(tmp_path / "frames").length == 24


@pytest.mark.parametrize("name", ["drawn.mp4", "drawn.mkv", "drawn.gif", "drawn"])
def test_tracks_and_gaps_are_drawn(name: str, tmp_path: Path) -> None:
    """All kinds of files show the same: a solid box and its id where a track was seen, dashes where it was not."""
    if Path(name).suffix in (".mp4", ".mkv"):
        pytest.importorskip("av")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(1, 5):
        Image.new("RGB", (201, 161)).save(pictures / f"{number}.png")
    tracks = make_table([1, 4], [4, 4], [[20, 30, 60, 80], [80, 30, 60, 80]])
    gaps = filled_gaps(tracks, 5)
    assert gaps.frames.tolist() == [2, 3]
    out = draw_frames(tmp_path / name, tracks, gaps=gaps, video=open_video(pictures))
    drawn = _frames_of(out)
    assert len(drawn) == 4
    colour = np.array(colour_of(4))
    for picture, left, seen in zip(drawn, (20, 40, 60, 80), (True, False, False, True), strict=True):
        edge = np.abs(picture[50:108, left : left + 2].mean(1) - colour).max(1) < 90  # below the label
        assert (0.9 if seen else 0.3) < edge.mean() < (1.01 if seen else 0.8)
    with pytest.raises(InvalidArgumentError, match=r"no ending of a video: expected \.mp4, .* got \.png"):
        draw_frames(tmp_path / "a.png", tracks)


def _frames_of(path: Path) -> list[Any]:
    if path.suffix == ".gif":
        with Image.open(path) as file:
            made = []
            for index in range(file.n_frames):
                file.seek(index)
                made.append(np.asarray(file.convert("RGB")).astype(int))
            return made
    return [np.asarray(frame.picture()).astype(int) for frame in open_video(path).frames()]


def test_a_written_video_is_read_back(tmp_path: Path) -> None:
    pytest.importorskip("av")
    pictures = (Image.fromarray(moving_squares.pixels(number)) for number in range(1, 25))
    write_video(tmp_path / "a.mp4", pictures, 29.97)
    video = open_video(tmp_path / "a.mp4")
    assert (video.size, video.length) == ((128, 64), 24)
    assert video.frame_rate == pytest.approx(29.97, abs=1e-3)
    for frame in video.frames():
        error = np.abs(np.asarray(frame.picture()).astype(int) - moving_squares.pixels(frame.number))
        assert error.mean() < 4

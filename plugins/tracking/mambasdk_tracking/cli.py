"""`mambasdk track [PACKAGE] det.txt`: tracks of a video's detections, as a file, as a picture, and measured."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.package.manifest import Manifest
from mambasdk.progress import track
from mambasdk_tracking.interpolation import interpolate
from mambasdk_tracking.metrics import evaluate, format_table
from mambasdk_tracking.metrics.preprocessing import BENCHMARKS
from mambasdk_tracking.mot import (
    SequenceInfo,
    Table,
    find_sequences,
    read_info,
    read_table,
    table_of_tracks,
    write_results,
)
from mambasdk_tracking.tracker import Tracker

# Options of the tracker: name -> (type, what).
_OPTIONS: dict[str, tuple[type, str]] = {
    "score_threshold": (float, "leave out detections that are not above it (default: 0.2)"),
    "new_track_score": (float, "score above which an unmatched detection begins a track (default: 0.6)"),
    "iou_first": (float, "least IoU of the first round of matching (default: 0.3)"),
    "iou_second": (float, "least IoU of the second round, with lost tracks (default: 0.1)"),
    "max_age": (int, "frames without a match after which a track ends (default: 30)"),
    "min_hits": (int, "matches in a row that confirm a track (default: 1)"),
    "duplicate_iou": (float, "end the younger of two tracks that overlap more (default: 1, never)"),
}


class TrackCommand:
    """A det.txt, or a folder of videos, each with det/det.txt, seqinfo.ini and perhaps gt/gt.txt."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Motion, files, image size, options of the tracker."""
        parser.add_argument(
            "package", nargs="?", help="a mambatrack package, whose model predicts motion (default: see --motion)"
        )
        parser.add_argument("detections", help="det.txt in MOTChallenge's format, or a folder with one or more videos")
        parser.add_argument(
            "--motion",
            choices=("kalman", "none"),
            help="motion without a package: a Kalman filter, or none at all (default: kalman)",
        )
        parser.add_argument(
            "--out", metavar="FILE", help="write the tracks in MOTChallenge's format; of several videos: a folder"
        )
        parser.add_argument("--plot", metavar="PNG", help="draw the tracks; of several videos: a folder")
        parser.add_argument(
            "--draw",
            metavar="GIF_OR_FOLDER",
            help="draw boxes, ids and trails on the frames (img1 of the video's folder, else white); "
            "of several videos: a folder",
        )
        parser.add_argument(
            "--interpolate",
            type=int,
            metavar="FRAMES",
            help="fill gaps of up to so many frames in finished tracks by straight lines (default: 0, none)",
            default=0,
        )
        parser.add_argument("--gt", metavar="FILE", help="gt.txt to measure against (default: that of the folder)")
        parser.add_argument(
            "--benchmark",
            choices=BENCHMARKS,
            default="plain",
            help="rules of the measurement: mot17 and mot20 leave out distractors (default: plain)",
        )
        parser.add_argument(
            "--image-size",
            metavar="WxH",
            help="of the video in pixels, for a package (default: seqinfo.ini of the folder, else the package's)",
        )
        parser.add_argument("--frames", type=int, help="length of the video (default: seqinfo.ini's, or as detected)")
        options = parser.add_argument_group("tracker")
        for name, (kind, what) in _OPTIONS.items():
            options.add_argument("--" + name.replace("_", "-"), type=kind, help=what)
        options.add_argument("--no-patching", action="store_true", help="one round of matching, and lost tracks wait")
        options.add_argument("--class-aware", action="store_true", help="match detections of a track's class only")

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Track every video, then write, draw and measure what was asked for."""
        if args.package is not None and args.motion is not None:
            raise InvalidArgumentError("both a package and --motion", where="track", way_out="leave one of them out")
        videos = _find_videos(args)
        several = len(videos) > 1
        rows, truths = [], {}
        for video in videos:
            table, row = _track(video, args)
            rows.append(row)
            if video.truth is not None:
                truths[video.name] = (video.truth, table)
            if args.out:
                row["out"] = str(_target(args.out, f"{video.name}.txt", several))
                write_results(row["out"], table)
            if args.plot:
                row["plot"] = str(_target(args.plot, f"{video.name}.png", several))
                _draw(row, video, table)
            if args.draw:
                row["drawn"] = str(_draw_frames(args.draw, video, table, row["frames"], several))
            if not args.json:
                print(
                    f"{video.name}: {row['tracks']} tracks, {row['boxes']} boxes in {row['frames']} frames "
                    f"({row['frames_per_second']:.0f} frames/s)"
                )
        report: dict[str, Any] = {"videos": rows} if several else dict(rows[0])
        if truths:
            measured = evaluate(truths, args.benchmark)
            report["metrics"] = {**measured.total, "HOTA_per_alpha": measured.hota_per_alpha.tolist()}
            if several:
                report["metrics_of"] = measured.sequences
            if not args.json:
                print(format_table(measured))
        return report


@dataclass
class _Video:
    """Where the detections of a video are, and what is known about it."""

    name: str
    detections: Path
    info: SequenceInfo | None
    image_size: tuple[float, float] | None
    truth: Table | None


def _find_videos(args: argparse.Namespace) -> list[_Video]:
    """Of a det.txt one, of a folder all sequences in it."""
    path = Path(args.detections)
    found: list[tuple[Path, Path | None]]
    if path.is_dir():
        found = [(folder / "det" / "det.txt", folder) for folder in find_sequences(path)]
        if args.gt and len(found) > 1:
            raise InvalidArgumentError(
                "--gt names one file", where=args.detections, expected="one video", got=f"{len(found)} videos"
            )
    else:
        around = path.resolve().parent.parent
        found = [(path, around if (around / "seqinfo.ini").is_file() else None)]
    videos = []
    for file, folder in found:
        if not file.is_file():
            raise InvalidArgumentError("no such file", where=str(file))
        info = read_info(folder) if folder is not None else None
        name = path.stem if folder is None or info is None else info.name
        truth = Path(args.gt) if args.gt else folder / "gt" / "gt.txt" if folder is not None else None
        table = read_table(truth, ground_truth=True) if truth is not None and (args.gt or truth.is_file()) else None
        videos.append(_Video(name, file, info, _image_size(args, info), table))
    return videos


def _track(video: _Video, args: argparse.Namespace) -> tuple[Table, dict[str, Any]]:
    """The tracks of a video, and figures about them."""
    options = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    motion = args.package or args.motion or "kalman"
    tracker = Tracker(
        motion,
        image_size=video.image_size,
        patching=not args.no_patching,
        class_aware=args.class_aware,
        **options,
    )
    length = args.frames or (video.info.length if video.info else 0)
    total = max(length, read_table(video.detections).frame_count)
    start = time.perf_counter()
    frames = track(tracker.sequence(video.detections, total), f"tracking {video.name}", total)
    found = [row for rows in frames for row in rows]
    seconds = time.perf_counter() - start
    table = interpolate(table_of_tracks(found), args.interpolate)
    return table, {
        "video": video.name,
        "detections": str(video.detections),
        "motion": motion,
        "frames": total,
        "tracks": len({row["id"] for row in found}),
        "boxes": len(table),
        "frames_per_second": total / max(seconds, 1e-9),
    }


def _draw(row: Mapping[str, Any], video: _Video, table: Table) -> None:
    from mambasdk_tracking.drawing import draw_tracks

    title = f"{video.name}: {_name(row['motion'])}"
    draw_tracks(row["plot"], table, truth=video.truth, image_size=video.image_size, title=title)


def _draw_frames(given: str, video: _Video, table: Table, count: int, several: bool) -> Path:
    """Draw on the frames that lie beside the detections, where there are any."""
    from mambasdk_tracking.frames import draw_frames

    out = Path(given) / video.name if several else Path(given)
    pictures = video.detections.resolve().parent.parent / "img1"
    return draw_frames(out, table, frames=pictures if pictures.is_dir() else None, info=video.info, count=count)


def _target(given: str, name: str, several: bool) -> Path:
    """The file to write: `given`, or `name` in it where it is a folder or there are several."""
    path = Path(given)
    if several or path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _image_size(args: argparse.Namespace, info: SequenceInfo | None) -> tuple[float, float] | None:
    if args.image_size is not None:
        width, _, height = args.image_size.lower().partition("x")
        try:
            return float(width), float(height)
        except ValueError:
            raise InvalidArgumentError(
                "bad --image-size", expected="WIDTHxHEIGHT, for example 1920x1080", got=args.image_size
            ) from None
    if info is not None:
        return float(info.image_size[0]), float(info.image_size[1])
    if args.package is None:
        return None
    size = (Manifest.read(args.package).head_options or {}).get("image_size")
    if size is None:
        raise InvalidArgumentError(
            "the size of the images is not known",
            where=args.detections,
            way_out="give --image-size 1920x1080, or the video's folder with its seqinfo.ini",
        )
    return float(size[0]), float(size[1])


def _name(motion: str) -> str:
    return {"kalman": "Kalman filter", "none": "no motion"}.get(motion, Path(motion).name)

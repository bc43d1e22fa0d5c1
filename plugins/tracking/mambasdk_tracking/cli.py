"""`mambasdk track`: identities for a video's detections, or for what a detector finds in the video itself."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.command_line.arguments import add_loading_arguments
from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk_tracking.interpolation import filled_gaps, interpolate
from mambasdk_tracking.metrics import evaluate, format_table
from mambasdk_tracking.metrics.preprocessing import BENCHMARKS
from mambasdk_tracking.mot import SequenceInfo, Table, read_table, table_of_tracks, write_info, write_results
from mambasdk_tracking.sources import Source, find_sources
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
_OF_DETECTOR = ("conf", "iou", "classes", "every", "max_frames")
_OF_DETECTIONS = ("frames", "image_size")
_DRAWN_GAP = 20  # frames that a video's drawing fills unless told otherwise


class TrackCommand:
    """A det.txt, a video, a folder of pictures, or one of videos with det/det.txt, seqinfo.ini, maybe gt/gt.txt."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Source, motion, files, options of the detector and of the tracker."""
        parser.add_argument("package", nargs="?", help="the same as --motion PACKAGE")
        parser.add_argument(
            "source",
            help="det.txt in MOTChallenge's format, or a folder with one or more such videos; with --detector a video "
            "file, a folder of pictures, or a folder with several of them",
        )
        parser.add_argument("--detector", metavar="PACKAGE", help="find the objects in the video with this package")
        parser.add_argument(
            "--motion",
            metavar="PACKAGE",
            help="what predicts motion: a mambatrack package, kalman (a Kalman filter) or none (default: kalman)",
        )
        parser.add_argument(
            "--out",
            metavar="PATH",
            help="write the tracks in MOTChallenge's format: a file, or with --detector a folder that gets track.txt, "
            "det/det.txt and seqinfo.ini; of several videos: a folder",
        )
        parser.add_argument("--plot", metavar="PNG", help="draw the tracks; of several videos: a folder")
        parser.add_argument(
            "--video",
            "--draw",
            metavar="PATH",
            help="draw boxes, ids and trails on the frames (img1 of the video's folder, else white), gaps dashed; "
            "an .mp4, .mkv, .mov, .avi or .gif, or a folder of pictures; of several videos: a folder of these folders",
        )
        parser.add_argument(
            "--interpolate",
            type=int,
            metavar="FRAMES",
            help="fill gaps of up to so many frames in finished tracks by straight lines (default: none in files, "
            f"{_DRAWN_GAP} in what --video draws)",
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
        _add_detector_arguments(parser.add_argument_group("detector"))
        add_loading_arguments(parser)
        options = parser.add_argument_group("tracker")
        for name, (kind, what) in _OPTIONS.items():
            options.add_argument("--" + name.replace("_", "-"), type=kind, help=what)
        options.add_argument("--no-patching", action="store_true", help="one round of matching, and lost tracks wait")
        options.add_argument("--class-aware", action="store_true", help="match detections of a track's class only")

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Track every video, then write, draw and measure what was asked for."""
        _check(args)
        sources = find_sources(args)
        several = len(sources) > 1
        detector = _detector(args) if args.detector else None
        rows, truths = [], {}
        for source in sources:
            if detector is None:
                seen, row = _track_detections(source, args)
            else:
                seen, row = _track_video(source, detector, args, several)
            table = interpolate(seen, args.interpolate or 0)
            row.update(tracks=len({*seen.ids.tolist()}), boxes=len(table))
            rows.append(row)
            if source.truth is not None:
                truths[source.name] = (source.truth, table)
            if args.out:
                row["out"] = str(_out(args, source, several))
                write_results(row["out"], table)
            if args.plot:
                row["plot"] = str(_target(args.plot, f"{source.name}.png", several))
                _plot(row, source, table)
            if args.video:
                row["drawn"] = str(_draw(args, source, seen, row["frames"], several))
            if not args.json:
                print(
                    f"{source.name}: {row['tracks']} tracks, {row['boxes']} boxes in {row['frames']} frames "
                    f"({row['frames_per_second']:.4g} frames/s)"
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


def _add_detector_arguments(options: argparse._ArgumentGroup) -> None:
    options.add_argument("--conf", type=float, help="least score of a detection (default: the package's)")
    options.add_argument(
        "--iou", type=float, help="of two boxes of a class that overlap more, the weaker goes (default: the package's)"
    )
    options.add_argument("--classes", metavar="A,B", help="labels or indices of the classes to track (default: all)")
    options.add_argument(
        "--every", type=int, metavar="N", help="look at every Nth frame only; tracks move on through the others"
    )
    options.add_argument("--max-frames", type=int, metavar="N", help="stop after so many frames of the video")


def _check(args: argparse.Namespace) -> None:
    """What excludes what; the package of --motion and the positional one become one."""
    if args.package is not None and args.motion is not None:
        raise InvalidArgumentError("both a package and --motion", where="track", way_out="leave one of them out")
    if args.motion not in (None, "kalman", "none"):
        args.package, args.motion = args.motion, None
    for name in _OF_DETECTIONS if args.detector else _OF_DETECTOR:
        if getattr(args, name) is not None:
            option = "--" + name.replace("_", "-")
            needs = "is for detections in a file" if args.detector else "needs --detector"
            raise InvalidArgumentError(f"{option} {needs}", where="track", way_out=f"leave {option} out")
    if args.video and Path(args.video).suffix:
        from mambasdk_tracking.video_files import writer_of

        writer_of(Path(args.video))  # an ending that cannot be written is known before anything is tracked


def _detector(args: argparse.Namespace) -> Any:
    from mambasdk_tracking.detector import Detector

    classes = [name.strip() for name in (args.classes or "").split(",") if name.strip()]
    return Detector(
        args.detector, conf=args.conf, iou=args.iou, classes=classes, verify=args.verify, allow_code=args.allow_code
    )


def _tracker_options(args: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    return {"patching": not args.no_patching, "class_aware": args.class_aware, **given}


def _motion(args: argparse.Namespace) -> str:
    return args.package or args.motion or "kalman"


def _track_detections(source: Source, args: argparse.Namespace) -> tuple[Table, dict[str, Any]]:
    """The tracks of a det.txt, and figures about them."""
    assert source.detections is not None
    motion = _motion(args)
    tracker = Tracker(motion, image_size=source.image_size, **_tracker_options(args))
    length = args.frames or (source.info.length if source.info else 0)
    total = max(length, read_table(source.detections).frame_count)
    start = time.perf_counter()
    frames = track(tracker.sequence(source.detections, total), f"tracking {source.name}", total)
    found = [row for rows in frames for row in rows]
    seconds = time.perf_counter() - start
    return table_of_tracks(found), {
        "video": source.name,
        "detections": str(source.detections),
        "motion": motion,
        "frames": total,
        "frames_per_second": total / max(seconds, 1e-9),
    }


def _track_video(
    source: Source, detector: Any, args: argparse.Namespace, several: bool
) -> tuple[Table, dict[str, Any]]:
    """The tracks of a video, and figures about them; what was detected goes to the folder of the tracks."""
    from mambasdk_tracking.video_tracks import track_video

    assert source.video is not None
    motion = _motion(args)
    made = track_video(
        source.video,
        detector,
        motion,
        every=1 if args.every is None else args.every,
        max_frames=args.max_frames,
        **_tracker_options(args),
    )
    row: dict[str, Any] = {
        "video": source.name,
        "detector": args.detector,
        "motion": motion,
        "frames": made.frames,
        "detected": len(made.detections),
        "frames_per_second": made.frames / max(made.seconds, 1e-9),
    }
    source.info = SequenceInfo(source.name, made.frames, source.video.size, source.video.frame_rate)
    if args.out and (several or Path(args.out).suffix != ".txt"):
        folder = _out(args, source, several).parent
        row["detections"] = str(folder / "det" / "det.txt")
        write_results(row["detections"], made.detections)
        write_info(folder, source.info)
    return made.tracks, row


def _plot(row: Mapping[str, Any], source: Source, table: Table) -> None:
    from mambasdk_tracking.drawing import draw_tracks

    title = f"{source.name}: {_name(row['motion'])}"
    draw_tracks(row["plot"], table, truth=source.truth, image_size=source.image_size, title=title)


def _draw(args: argparse.Namespace, source: Source, seen: Table, count: int, several: bool) -> Path:
    """Draw on the video's frames, where there are any."""
    from mambasdk_tracking.frames import draw_frames

    gap = max(_DRAWN_GAP, args.every or 1) if args.interpolate is None else args.interpolate
    return draw_frames(
        Path(args.video) / source.name if several else Path(args.video),
        seen,
        gaps=filled_gaps(seen, gap),
        video=source.video,
        info=source.info,
        count=count,
    )


def _out(args: argparse.Namespace, source: Source, several: bool) -> Path:
    """Where the tracks go: with a detector into a folder of their own, unless a .txt is named."""
    if args.detector and (several or Path(args.out).suffix != ".txt"):
        folder = Path(args.out) / source.name if several else Path(args.out)
        return folder / "track.txt"
    return _target(args.out, f"{source.name}.txt", several)


def _target(given: str, name: str, several: bool) -> Path:
    """The file to write: `given`, or `name` in it where it is a folder or there are several."""
    path = Path(given)
    if several or path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _name(motion: str) -> str:
    return {"kalman": "Kalman filter", "none": "no motion"}.get(motion, Path(motion).name)

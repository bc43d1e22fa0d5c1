"""`mambasdk track [PACKAGE] det.txt`: tracks of a video's detections, as a file, as a picture, and measured."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.package.manifest import Manifest
from mambasdk.progress import track
from mambasdk_tracking.metrics import evaluate, format_table
from mambasdk_tracking.mot import Table, find_sequences, read_info, read_table, table_of_tracks, write_results
from mambasdk_tracking.tracker import Tracker

_BENCHMARKS = ("plain", "mot15", "mot17", "mot20")
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
    """A det.txt, or a sequence's folder with det/det.txt, seqinfo.ini and perhaps gt/gt.txt."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Motion, files, image size, options of the tracker."""
        parser.add_argument(
            "package", nargs="?", help="a mambatrack package, whose model predicts motion (default: see --motion)"
        )
        parser.add_argument("detections", help="det.txt in MOTChallenge's format, or the folder of a sequence")
        parser.add_argument(
            "--motion",
            choices=("kalman", "none"),
            help="motion without a package: a Kalman filter, or none at all (default: kalman)",
        )
        parser.add_argument("--out", metavar="FILE", help="write the tracks in MOTChallenge's format")
        parser.add_argument("--plot", metavar="PNG", help="draw the tracks")
        parser.add_argument("--gt", metavar="FILE", help="gt.txt to measure against (default: that of the folder)")
        parser.add_argument(
            "--benchmark",
            choices=_BENCHMARKS,
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
        """Track, then write, draw and measure what was asked for."""
        if args.package is not None and args.motion is not None:
            raise InvalidArgumentError("both a package and --motion", where="track", way_out="leave one of them out")
        detections, folder = _find_detections(args.detections)
        info = read_info(folder) if folder is not None else None
        size = _image_size(args, info.image_size if info else None)
        options = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
        tracker = Tracker(
            args.package or args.motion or "kalman",
            image_size=size,
            patching=not args.no_patching,
            class_aware=args.class_aware,
            **options,
        )
        count = args.frames or (info.length if info else None)
        start = time.perf_counter()
        frames = tracker.sequence(detections, count)
        total = max(count or 0, read_table(detections).frame_count)
        tracks = [row for rows in track(frames, "tracking", total) for row in rows]
        seconds = time.perf_counter() - start
        table = table_of_tracks(tracks)
        report: dict[str, Any] = {
            "detections": str(detections),
            "motion": args.package or args.motion or "kalman",
            "frames": total,
            "tracks": len({row["id"] for row in tracks}),
            "boxes": len(tracks),
            "frames_per_second": total / max(seconds, 1e-9),
        }
        truth = _truth(args, folder)
        if args.out:
            write_results(args.out, table)
            report["out"] = args.out
        if args.plot:
            from mambasdk_tracking.picture import draw_tracks

            name = info.name if info else Path(args.detections).name
            draw_tracks(args.plot, table, truth=truth, image_size=size, title=f"{name}: {_name(report['motion'])}")
            report["plot"] = args.plot
        if not args.json:
            print(
                f"{report['tracks']} tracks, {report['boxes']} boxes in {total} frames "
                f"({report['frames_per_second']:.0f} frames/s)"
            )
        if truth is not None:
            measured = evaluate({Path(args.detections).stem if info is None else info.name: (truth, table)},
                                args.benchmark)  # fmt: skip
            report["metrics"] = {**measured.total, "HOTA_per_alpha": measured.hota_per_alpha.tolist()}
            if not args.json:
                print(format_table(measured))
        return report


def _find_detections(given: str) -> tuple[Path, Path | None]:
    """The det.txt, and the sequence's folder where there is one around it."""
    path = Path(given)
    if path.is_dir():
        sequences = find_sequences(path)
        if len(sequences) != 1:
            raise InvalidArgumentError(
                f"{len(sequences)} sequences in it", where=given, expected="one", way_out="track one after another"
            )
        file = sequences[0] / "det" / "det.txt"
        if not file.is_file():
            raise InvalidArgumentError("no det/det.txt", where=str(sequences[0]), way_out="give the file itself")
        return file, sequences[0]
    if not path.is_file():
        raise InvalidArgumentError("no such file", where=given)
    folder = path.resolve().parent.parent
    return path, folder if (folder / "seqinfo.ini").is_file() else None


def _image_size(args: argparse.Namespace, of_video: tuple[int, int] | None) -> tuple[float, float] | None:
    if args.image_size is not None:
        width, _, height = args.image_size.lower().partition("x")
        try:
            return float(width), float(height)
        except ValueError:
            raise InvalidArgumentError(
                "bad --image-size", expected="WIDTHxHEIGHT, for example 1920x1080", got=args.image_size
            ) from None
    if of_video is not None:
        return float(of_video[0]), float(of_video[1])
    if args.package is None:
        return None
    size = (Manifest.read(args.package).head_options or {}).get("image_size")
    if size is None:
        raise InvalidArgumentError(
            "the size of the images is not known",
            where=args.detections,
            way_out="give --image-size 1920x1080, or the sequence's folder with its seqinfo.ini",
        )
    return float(size[0]), float(size[1])


def _truth(args: argparse.Namespace, folder: Path | None) -> Table | None:
    if args.gt:
        return read_table(args.gt, ground_truth=True)
    file = folder / "gt" / "gt.txt" if folder is not None else None
    return read_table(file, ground_truth=True) if file is not None and file.is_file() else None


def _name(motion: str) -> str:
    return {"kalman": "Kalman filter", "none": "no motion"}.get(motion, Path(motion).name)

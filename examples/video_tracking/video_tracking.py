"""From pixels to tracks: train a detector and a motion predictor, then track rendered videos with both.

    python examples/video_tracking/video_tracking.py --out video-tracking

What it shows, and what has to hold, is in README.md, with the figures. Needs mambasdk-vision[train] and
mambasdk-tracking[train,metrics,plot]; with mambasdk-tracking[video] the first video is written as a file too.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scenes import HEIGHT, SHAPES, VISIBLE, WIDTH, Floats, Scene, corners, make_scene, render, swing

from mambasdk.command_line import main as mambasdk
from mambasdk_tracking.frames import draw_frames
from mambasdk_tracking.interpolation import filled_gaps
from mambasdk_tracking.metrics import evaluate_folder
from mambasdk_tracking.mot import SequenceInfo, make_table, read_table, write_ground_truth, write_info
from mambasdk_tracking.video import open_video
from mambasdk_tracking.video_files import write_video

FRAME_RATE = 25
NOISE = 0.03  # of a detector's boxes, as a share of their size: what the motion predictor is trained with
METRICS = ("HOTA", "IDF1", "MOTA", "AssA", "DetA")


def write_images(folder: Path, chance: np.random.Generator, train: int, held_out: int) -> Path:
    """Frames of many scenes with YOLO labels of one class; returns data.yaml."""
    for part, count in (("train", train), ("val", held_out)):
        images, labels = folder / "images" / part, folder / "labels" / part
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture, boxes, seen = render(make_scene(chance, 1), 0)
            picture.save(images / f"{number:04}.png")
            size = np.array([WIDTH, HEIGHT])
            lines = [
                " ".join(
                    ["0", *(f"{value:.6f}" for value in (*((b[:2] + b[2:]) / 2 / size), *((b[2:] - b[:2]) / size)))]
                )
                for b in boxes[seen >= VISIBLE]
            ]
            (labels / f"{number:04}.txt").write_text("".join(line + "\n" for line in lines))
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames:\n  0: shape\n")
    return folder / "data.yaml"


def write_motion(folder: Path, chance: np.random.Generator, count: int, frames: int = 60) -> None:
    """Tracks of shapes as a detector would see them, in MOTChallenge's layout and without pictures."""
    paths = swing(chance, count, frames)
    paths += NOISE * np.concatenate([paths[..., 2:], paths[..., 2:]], -1) * chance.standard_normal(paths.shape)
    numbers, ids = np.tile(np.arange(1, frames + 1), count), np.repeat(np.arange(1, count + 1), frames)
    write_info(folder, SequenceInfo(folder.name, frames, (WIDTH, HEIGHT), FRAME_RATE))
    write_ground_truth(folder / "gt" / "gt.txt", make_table(numbers, ids, left_top(paths).reshape(-1, 4)))


def write_scene(folder: Path, scene: Scene) -> None:
    """A video as PNG frames in MOTChallenge's layout; who is hidden has no box."""
    (folder / "img1").mkdir(parents=True, exist_ok=True)
    rows = []
    for frame in range(scene.frames):
        picture, boxes, seen = render(scene, frame)
        picture.save(folder / "img1" / f"{frame + 1:06}.png")
        rows += [
            (frame + 1, index + 1, *box[:2], *(box[2:] - box[:2]), share)
            for index, (box, share) in enumerate(zip(boxes, seen, strict=True))
            if share >= VISIBLE
        ]
    table = np.array(rows)
    write_info(folder, SequenceInfo(folder.name, scene.frames, (WIDTH, HEIGHT), FRAME_RATE))
    write_ground_truth(
        folder / "gt" / "gt.txt", make_table(table[:, 0], table[:, 1], table[:, 2:6], visibility=table[:, 6])
    )


def left_top(paths: Floats) -> Floats:
    """(…, 4) from centre and size to left, top, width, height."""
    return np.concatenate([corners(paths)[..., :2], paths[..., 2:]], -1)


def run(*arguments: object) -> dict[str, Any]:
    """A command of `mambasdk`, and what it says with --json; its failure ends the script."""
    words = [str(argument) for argument in arguments]
    print("mambasdk", *words, flush=True)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = mambasdk([*words, "--json"])
    if code:
        raise SystemExit(code)
    report: dict[str, Any] = json.loads(said.getvalue().splitlines()[-1])
    return report


def train(out: Path, data: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The detector and the motion predictor, as packages; what their training says."""
    machine = ["--seed", args.seed, "--threads", args.threads, "--overwrite", "--restart"]
    detector = run(
        *("train", "mamba_yolo", "--data", data, "--out", out / "detector", "--imgsz", *args.imgsz),
        *("--steps", args.steps, "--batch", 8, "--lr", "4e-3", "--mosaic", 0, "--scale", 0.1, "--translate", 0.05),
        *("--set", "reg_max=8", "--last", "--no-pictures", *machine),
    )
    motion = run(
        *("train", "mambatrack", "--data", out / "motion-data", "--out", out / "motion", "--steps", args.motion_steps),
        *("--set", "d_model=32", "--set", "n_layer=1", "--weight-decay", 0, *machine),
    )
    return {"detector": detector, "motion": motion}


def track(out: Path) -> dict[str, dict[str, Any]]:
    """Detect once and track with the learned motion; then track the same detections with other motions."""
    learned = run("track", out / "videos", "--detector", out / "detector", "--motion", out / "motion",
                  "--conf", 0.3, "--out", out / "tracks")  # fmt: skip
    found = {"MambaTrack": learned["metrics"]}
    for name, motion in (("IoU + Kalman filter", "kalman"), ("IoU alone", "none")):
        results = out / f"tracks-{motion}"
        results.mkdir(exist_ok=True)  # of one video too
        run("track", out / "tracks", "--motion", motion, "--out", results)
        found[name] = evaluate_folder(out / "videos", results).total
    return found


def draw(out: Path) -> None:
    """The first video as it is and with its tracks: a GIF, and video files where PyAV is there."""
    video = open_video(out / "videos" / "video-1")
    tracks = read_table(out / "tracks" / "video-1" / "track.txt")
    draw_frames(out / "tracked.gif", tracks, gaps=filled_gaps(tracks), video=video)
    if importlib.util.find_spec("av") is not None:
        draw_frames(out / "tracked.mp4", tracks, gaps=filled_gaps(tracks), video=video)
        write_video(out / "video.mp4", (frame.picture() for frame in video.frames()), video.frame_rate)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Render, train, track, measure; returns what report.json holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("video-tracking"), help="folder for everything written")
    parser.add_argument("--images", type=int, default=600, help="frames to train the detector on (default: 600)")
    parser.add_argument("--steps", type=int, default=350, help="training steps of the detector (default: 350)")
    parser.add_argument("--motion-steps", type=int, default=600, help="training steps of the motion (default: 600)")
    parser.add_argument("--imgsz", type=int, nargs=2, default=[96, 160], help="height and width that the detector sees")
    parser.add_argument("--videos", type=int, default=4, help="to track (default: 4)")
    parser.add_argument("--frames", type=int, default=100, help="of each video (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of scenes and trainings (default: 0)")
    parser.add_argument("--threads", type=int, default=2, help="of the trainings (default: 2)")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    chance = np.random.default_rng(args.seed)
    data = write_images(args.out / "images", chance, args.images, max(args.images // 10, 4))
    write_motion(args.out / "motion-data", chance, 1000)
    for number in range(1, args.videos + 1):
        write_scene(args.out / "videos" / f"video-{number}", make_scene(chance, args.frames))
    report: dict[str, Any] = {"training": train(args.out, data, args)}
    report["metrics"] = track(args.out)
    draw(args.out)
    report["seconds"] = time.perf_counter() - start
    print(f"\n{args.videos} videos of {args.frames} frames, {SHAPES} shapes in each")
    print(f"{'the same detections, tracked by':<32}" + "".join(f"{name:>7}" for name in METRICS) + f"{'IDSW':>7}")
    for name, row in report["metrics"].items():
        shares = "".join(f"{100 * row[metric]:7.1f}" for metric in METRICS)
        print(f"{name:<32}{shares}{row['IDSW']:7.0f}")
    learned, kalman = (report["metrics"][name] for name in ("MambaTrack", "IoU + Kalman filter"))
    report["pass"] = {name: learned[name] > kalman[name] for name in ("HOTA", "IDF1", "MOTA")}
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{report['seconds']:.0f} s; tracked.gif, packages, tracks and report.json: {args.out}/")
    if not all(report["pass"].values()):
        raise SystemExit(f"not above the Kalman filter: {report['pass']}")
    return report


if __name__ == "__main__":
    main()

"""The head `motion_tracker`: `mambasdk train` for motion predictors, and pictures. Imports torch only to train."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import TaskHead, TaskRun, TrainingOptions, start_model
from mambasdk_tracking.mot import Floats, find_sequences, read_sequence, table_of_tracks

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation

_SCHEDULES = ("cosine", "paper")


class MotionTrackerHead(TaskHead):
    """Training on the ground truth of MOTChallenge folders; pictures of tracks."""

    defaults: ClassVar = {"batch": 64, "lr": 2e-3, "weight_decay": 0.01, "steps": 1000}

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data and schedule."""
        data = parser.add_argument_group("data")
        data.add_argument(
            "--data", required=True, nargs="+", metavar="FOLDER", help="MOTChallenge folders: SEQUENCE/gt/gt.txt"
        )
        data.add_argument(
            "--held-out", type=float, default=0.1, help="share of the tracks not trained on (default: 0.1)"
        )
        data.add_argument(
            "--schedule",
            choices=_SCHEDULES,
            default="cosine",
            help="of the learning rate: cosine with warm-up, or the paper's, which --lr does not change (default: "
            "cosine)",
        )

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Windows of the tracks, and a motion predictor."""
        from mambasdk_tracking.training import MotionPrediction, PaperTrainer, paper_options
        from mambasdk_tracking.windows import make_windows, split_tracks

        model: Any = start_model(args)
        paths, sizes = _paths(args.data, model.window + 2)
        parts = split_tracks(paths, args.held_out)
        train, held_out = (make_windows(part, window=model.window, scale=model.scale) for part in parts)
        if args.schedule == "paper":
            options = paper_options(
                options.steps,
                options.minutes,
                batch=options.batch,
                clip=options.clip,
                seed=options.seed,
                autocast=options.autocast,
            )
        task = MotionPrediction(model, train, held_out, batch=options.batch, seed=options.seed)
        return TaskRun(
            model,
            task,
            options=options,
            trainer=PaperTrainer if args.schedule == "paper" else None,
            # Where all videos have one size, tracking need not be told.
            head_options={"image_size": list(sizes[0])} if len(sizes) == 1 else None,
            curve={"title": "Motion prediction", "loss_label": "smooth L1", "metric": "iou", "metric_label": "IoU"},
            amount=f"{len(train):,} windows",
            report=lambda trained: {
                "windows": len(train),
                "held_out_windows": len(held_out),
                "windows_per_second": trained.result.units_per_second,
                **{f"held_out_{name}": value for name, value in trained.metrics.items()},
            },
            held_out=lambda trained: (
                f"IoU {trained.metrics['iou']:.3f}, centre error {trained.metrics['centre_error']:.4f} heights "
                f"on {len(held_out):,} windows of {len(parts[1])} tracks"
            ),
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Rules of the measurement."""
        from mambasdk_tracking.metrics.preprocessing import BENCHMARKS

        parser.add_argument(
            "--benchmark",
            choices=BENCHMARKS,
            default="plain",
            help="mot17 and mot20 leave out distractors (default: plain)",
        )

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """MOT metrics of the videos in the folders `args.data`, tracked by the package's motion model."""
        from mambasdk_tracking.evaluation import evaluate

        return evaluate(args)

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Trajectories and life times of the tracks of a det.txt."""
        from mambasdk.package import Manifest
        from mambasdk_tracking.drawing import draw_tracks

        size = (Manifest.read(package).head_options or {}).get("image_size")
        draw_tracks(out, table_of_tracks(result["tracks"]), image_size=size, title=file.name)


def _paths(
    folders: list[str], least: int
) -> tuple[list[tuple[Floats, tuple[float, float]]], list[tuple[float, float]]]:
    """Paths of all tracks with their image's size, and the sizes that there are."""
    from mambasdk_tracking.metrics.preprocessing import PEDESTRIAN
    from mambasdk_tracking.windows import track_paths

    paths: list[tuple[Floats, tuple[float, float]]] = []
    for root in folders:
        for folder in find_sequences(root):
            sequence = read_sequence(folder)
            if sequence.ground_truth is None:
                raise InvalidArgumentError("no gt/gt.txt", where=str(folder), way_out="train on the training split")
            truth = sequence.ground_truth
            truth = truth.select((truth.values != 0) & (truth.classes == PEDESTRIAN))
            paths += [(path, sequence.info.image_size) for path in track_paths(truth, least)]
    if not paths:
        raise InvalidArgumentError(
            "no track is long enough", where=", ".join(folders), expected=f"{least} frames without a gap"
        )
    return paths, sorted({size for _, size in paths})

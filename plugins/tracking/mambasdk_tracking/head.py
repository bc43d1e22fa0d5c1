"""The head `motion_tracker`: `mambasdk train` for motion predictors, and pictures. Imports torch only to train."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import (
    add_training_arguments,
    check_output,
    options_from_arguments,
    run_from_arguments,
    write_curve,
)
from mambasdk_tracking.mot import Floats, find_sequences, read_sequence, table_of_tracks

_SCHEDULES = ("cosine", "paper")


class MotionTrackerHead:
    """Training on the ground truth of MOTChallenge folders; pictures of tracks."""

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, schedule, and the arguments of every training."""
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
        add_training_arguments(parser, batch=64, lr=2e-3, weight_decay=0.01, steps=1000)

    def train(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Train and save a package."""
        from mambasdk.package import save_package
        from mambasdk.training import Trainer
        from mambasdk_tracking.training import MotionPrediction, PaperTrainer, paper_options
        from mambasdk_tracking.windows import make_windows, split_tracks

        out = check_output(args)
        options = options_from_arguments(args)
        model = _model(args)
        paths, sizes = _paths(args.data, model.window + 2)
        parts = split_tracks(paths, args.held_out)
        train, held_out = (make_windows(part, window=model.window, scale=model.scale) for part in parts)
        trainer_type: type[Trainer] = Trainer
        if args.schedule == "paper":
            trainer_type = PaperTrainer
            options = paper_options(
                options.steps,
                options.minutes,
                batch=options.batch,
                clip=options.clip,
                seed=options.seed,
                autocast=options.autocast,
            )
        task = MotionPrediction(model, train, held_out, batch=options.batch, seed=options.seed)
        result = run_from_arguments(trainer_type(model, task, options), args)
        # Where all videos have one size, tracking need not be told.
        head_options = {"image_size": list(sizes[0])} if len(sizes) == 1 else None
        manifest = save_package(model, out, head_options=head_options, overwrite=args.overwrite)
        if args.curve:
            write_curve(args.curve, result, title="Motion prediction", unit="windows", loss_label="smooth L1",
                        metric="iou", metric_label="IoU")  # fmt: skip
        report = {
            "package": str(out),
            "family": manifest.family,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "windows": len(train),
            "held_out_windows": len(held_out),
            "steps": result.steps,
            "windows_per_second": result.units_per_second,
            "loss": result.losses[-1] if result.losses else None,
            **{f"held_out_{name}": value for name, value in result.metrics.items()},
        }
        if not args.json:
            print(f"{out}: {report['parameters']:,} parameters, {result.steps} steps, {len(train):,} windows")
            print(
                f"held out: IoU {result.metrics['iou']:.3f}, centre error {result.metrics['centre_error']:.4f} heights "
                f"on {len(held_out):,} windows of {len(parts[1])} tracks"
            )
        return report

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Trajectories and life times of the tracks of a det.txt."""
        from mambasdk.package import Manifest
        from mambasdk_tracking.picture import draw_tracks

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


def _model(args: argparse.Namespace) -> Any:
    """A new model, or that of a package."""
    import torch

    from mambasdk.cli.arguments import is_package
    from mambasdk.models import create_model
    from mambasdk.package import load

    if is_package(args.model):
        if args.overrides:
            raise InvalidArgumentError(
                "--set has no effect on a package", where="train", way_out="give a family to start a new model"
            )
        return load(args.model, device=args.device, dtype=torch.float32)
    torch.manual_seed(args.seed)
    return create_model(args.model, device=args.device, **args.overrides)

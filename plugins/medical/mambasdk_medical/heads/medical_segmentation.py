"""The head `medical_segmentation`: `mambasdk train` on data sets in nnU-Net's folders, scores of packages."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import TaskHead, TaskRun, TrainingOptions

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation

_MEMORY = 8.0  # GB, of plans that are made by the way
_AMP = ("bfloat16", "float16")


class MedicalSegmentationHead(TaskHead):
    """Structures in images and volumes. Defaults are nnU-Net's, but for the length of the run."""

    defaults: ClassVar = {
        "optimizer": "sgd",
        "lr": 1e-2,
        "momentum": 0.99,
        "weight_decay": 3e-5,
        "clip": 12.0,
        "warmup": 0.0,
        "steps": 1000,
    }

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data set, plan, fold; patches; precision."""
        data = parser.add_argument_group("data")
        data.add_argument(
            "--data",
            required=True,
            metavar="DATASET",
            help="a folder DatasetXXX_Name with imagesTr, labelsTr and dataset.json, or its number under $nnUNet_raw",
        )
        add_workspace_arguments(data)
        data.add_argument(
            "-c", "--configuration", help="of the plans (default: 3d_fullres where the model takes volumes, else 2d)"
        )
        data.add_argument(
            "--fold", default="0", help="which fifth of the cases is held out, 0 to 4, or all (default: 0)"
        )
        data.add_argument(
            "--memory",
            type=float,
            default=_MEMORY,
            metavar="GB",
            help=f"of a step, for plans that are not there yet (default: {_MEMORY:g})",
        )
        patches = parser.add_argument_group("patches")
        patches.add_argument(
            "--foreground", type=float, default=0.33, help="share of the patches around some class (default: 0.33)"
        )
        patches.add_argument(
            "--augmentation", action=argparse.BooleanOptionalAction, default=True, help="nnU-Net's random changes"
        )
        patches.add_argument(
            "--validation-patches",
            type=int,
            default=50,
            metavar="N",
            help="held-out patches of a measurement (default: 50)",
        )
        patches.add_argument(
            "--deep-supervision",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="train coarser outputs too, where the model has any",
        )
        patches.add_argument(
            "--amp", choices=_AMP, help="mixed precision; float16 with scaled gradients (default: float32)"
        )

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """See TaskHead. The batch is the plan's unless it is given, and the package gets the best weights."""
        super().add_train_arguments(parser)
        defaults = {**parser.get_default("training_defaults"), "batch": None}
        parser.set_defaults(batch=None, best="", training_defaults=defaults)

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Plans and prepared cases, made where they are missing; a model for them."""
        from mambasdk_medical.data.workspace import Workspace
        from mambasdk_medical.inference.package import package_entries
        from mambasdk_medical.preprocessing.store import open_case, read_index
        from mambasdk_medical.training.augmentation import Augmentation
        from mambasdk_medical.training.folds import fold
        from mambasdk_medical.training.start import fitted_model
        from mambasdk_medical.training.task import MedicalSegmentation, MedicalTrainer

        if not 0 <= args.foreground <= 1:
            raise InvalidArgumentError("bad --foreground", expected="0 to 1", got=args.foreground)
        if args.validation_patches < 1:
            raise InvalidArgumentError("bad --validation-patches", expected="1 or more", got=args.validation_patches)
        workspace = Workspace.of(args.data, args.preprocessed)
        plans = workspace.plans(args.plans, memory=args.memory)
        configuration, model = fitted_model(args, workspace.dataset, plans)
        folder = workspace.prepared(configuration)
        if not workspace.is_prepared(configuration):
            workspace.preprocess(configuration)
        names = [case["name"] for case in read_index(folder, configuration)]
        train, held_out = fold(workspace.folder, names, args.fold)
        labels = workspace.dataset.labels
        outside = 0 if labels.ignore is None else labels.ignore
        augmentation = Augmentation(configuration.patch_size, outside=outside) if args.augmentation else None
        batch = options.batch or configuration.batch_size
        amp = args.amp or options.autocast
        options = dataclasses.replace(options, batch=batch, autocast="bfloat16" if amp == "bfloat16" else None)
        task = MedicalSegmentation(
            model,
            [open_case(folder, name) for name in train],
            [open_case(folder, name) for name in held_out],
            labels,
            batch=batch,
            seed=options.seed,
            batch_dice=configuration.batch_dice,
            augmentation=augmentation,
            foreground=args.foreground,
            validation=args.validation_patches,
            amp=amp,
        )
        return TaskRun(
            model,
            task,
            **package_entries(
                workspace.dataset, configuration, () if augmentation is None else augmentation.mirror_axes
            ),
            options=options,
            trainer=MedicalTrainer,
            curve={
                "title": workspace.dataset.name,
                "loss_label": "cross entropy - Dice",
                "metric": "dice",
                "metric_label": "Dice",
            },
            report=lambda trained: {
                "dataset": workspace.dataset.name,
                "configuration": configuration.name,
                "fold": args.fold,
                "train_cases": len(train),
                "held_out_cases": len(held_out),
                "patches_per_second": trained.result.units_per_second,
                "dice": trained.metrics["dice"],
            },
            held_out=lambda trained: (
                f"Dice {trained.metrics['dice']:.3f} on {args.validation_patches} patches of {len(held_out)} cases"
            ),
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """How cases are predicted, and what is measured."""
        from mambasdk_medical.commands.evaluate import add_metric_arguments
        from mambasdk_medical.commands.predict import add_prediction_arguments

        add_prediction_arguments(parser.add_argument_group("prediction"))
        add_metric_arguments(parser.add_argument_group("metrics"))

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """Predict the training cases of a data set, `args.data`, and score them."""
        from mambasdk_medical.commands.evaluate import evaluate_package

        return evaluate_package(args)

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Write the PNG `out`: the labels that the package finds over a picture, or over three slices of a volume."""
        from mambasdk_medical.inference.files import draw_case
        from mambasdk_medical.inference.predictor import Predictor

        draw_case(Predictor.open([package]), (file,), out)


def add_workspace_arguments(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """`--preprocessed` and `--plans`."""
    group.add_argument(
        "--preprocessed",
        metavar="DIR",
        help="where plans and prepared cases lie (default: $nnUNet_preprocessed/NAME, else DATASET/preprocessed)",
    )
    group.add_argument(
        "--plans", metavar="FILE", help="another plans file, of nnU-Net v2 too (default: plans.json there)"
    )

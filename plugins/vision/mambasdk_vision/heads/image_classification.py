"""The head `image_classification`: `mambasdk train` on folders of images, pictures for `predict --plot`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.training import Start, TaskHead, TaskRun, TrainingOptions, start_model
from mambasdk.training.readable import add_skip_bad_argument
from mambasdk_vision.classification.augmentation import Augmentation
from mambasdk_vision.classification.folder import ClassFolders, Pixels, read_folders, readable_pixels, split
from mambasdk_vision.drawing.labels import draw_labels
from mambasdk_vision.heads.arguments import add_engine_argument, add_size_argument, size_of
from mambasdk_vision.processors import IMAGENET

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation

_NORMALISATION = {name: IMAGENET[name] for name in ("mean", "std")}


class ImageClassificationHead(TaskHead):
    """Labels of images."""

    defaults: ClassVar = {"batch": 32, "lr": 1e-3, "weight_decay": 0.05}

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, augmentation, engine."""
        data = parser.add_argument_group("data")
        data.add_argument("--data", required=True, metavar="DIR", help="a folder of PNG and JPEG files for each class")
        data.add_argument("--test", metavar="DIR", help="the same, not trained on (default: a part of --data)")
        data.add_argument(
            "--held-out", type=float, default=0.1, help="share of --data that is not trained on (default: 0.1)"
        )
        add_skip_bad_argument(data)
        add_size_argument(data)
        data.add_argument(
            "--flip", action=argparse.BooleanOptionalAction, default=True, help="mirror every second image"
        )
        data.add_argument(
            "--shift", type=float, default=0.125, help="most movement, share of the side (default: 0.125)"
        )
        data.add_argument("--label-smoothing", type=float, default=0.1, help="(default: 0.1)")
        data.add_argument("--top-k", type=int, default=5, help="labels that the package names (default: 5)")
        add_engine_argument(parser)

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Images by class folders, and a model for their classes."""
        from mambasdk_vision.classification.task import ImageClassificationTask

        train, held_out = _data(args)
        model, entry = _model(args, train.classes)
        seen, unseen = readable_pixels([Pixels(part, entry) for part in (train, held_out)], skip_bad=args.skip_bad)
        train, held_out = seen.data, unseen.data
        task = ImageClassificationTask(
            model,
            seen,
            unseen,
            entry,
            batch=options.batch,
            seed=options.seed,
            augmentation=Augmentation(args.flip, args.shift),
            label_smoothing=args.label_smoothing,
        )
        classes, counts = train.classes, (len(train), len(held_out))
        return TaskRun(
            model,
            task,
            processors={"image": entry},
            head_options={"labels": classes, "top_k": min(args.top_k, len(classes))},
            engine=None if args.engine == "auto" else args.engine,
            curve={"loss_label": "cross entropy", "metric": "accuracy"},
            report=lambda trained: {
                "classes": classes,
                "train_images": counts[0],
                "held_out_images": counts[1],
                "images": trained.result.units,
                "images_per_second": trained.result.units_per_second,
                "accuracy": trained.metrics["accuracy"],
                "loss": trained.metrics["loss"],
            },
            held_out=lambda trained: (
                f"{trained.metrics['accuracy']:.1%} of {counts[1]} images right, {len(classes)} classes"
            ),
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """How many labels count as right."""
        parser.add_argument("--top-k", type=int, default=5, help="labels of the top-k accuracy (default: 5)")

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """Scores of the images in class folders: `args.data` is one folder."""
        from mambasdk_vision.classification.evaluation import evaluate

        return evaluate(args)

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Write the PNG `out`: the image and its labels with probabilities."""
        draw_labels(file, result, out)


def _data(args: argparse.Namespace) -> tuple[ClassFolders, ClassFolders]:
    data = read_folders(args.data)
    if args.test:
        return data, read_folders(args.test, data.classes)
    return split(data, args.held_out, args.seed)


def _model(args: argparse.Namespace, classes: list[str]) -> tuple[Any, dict[str, Any]]:
    """The model to train and its processor entry: new, or that of a package with an end for these classes."""
    from mambasdk.lowering import as_model
    from mambasdk_vision.model import image_size

    size, start = size_of(args), Start.of(args)
    if start.model is None:
        sized = {"image_size": list(size)} if size else {}
        new: Any = start_model(args, {"num_classes": len(classes), **sized})
        return new, _entry(size or image_size(new), _NORMALISATION)
    model: Any = start.model
    old, labels = start.processor("image") or {}, start.labels
    if size and size != image_size(model):
        model = as_model(model).resized(image=size)
    # Other labels need another last layer, even where they are as many.
    if labels != classes and (labels is not None or as_model(model).classes != len(classes)):
        model = as_model(model).with_classes(len(classes))
    normalisation = {name: old[name] for name in _NORMALISATION if name in old} if old else _NORMALISATION
    return model, _entry(size or old.get("size") or image_size(model), normalisation)


def _entry(size: Any, normalisation: Mapping[str, Any]) -> dict[str, Any]:
    sides = [size, size] if isinstance(size, int) else list(size)
    return {"kind": "image", "size": sides, **normalisation}

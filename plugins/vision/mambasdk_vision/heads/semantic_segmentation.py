"""The head `semantic_segmentation`: `mambasdk train` on images and masks, masks over pictures for `predict --plot`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import Start, TaskHead, TaskRun, TrainingOptions, start_model
from mambasdk.training.readable import add_skip_bad_argument
from mambasdk_vision.heads.arguments import add_engine_argument, add_size_argument, size_of
from mambasdk_vision.processors import IMAGENET
from mambasdk_vision.segmentation.data import (
    ImageMasks,
    SegmentedImages,
    read_labels,
    read_pairs,
    readable_pairs,
    split_pairs,
)

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation

# The whole image, stretched to the size of the model.
_PREPARATION = {"resize": "exact", "interpolation": "bilinear"}
_NORMALISATION = {name: IMAGENET[name] for name in ("mean", "std")}


class SemanticSegmentationHead(TaskHead):
    """Classes of pixels."""

    defaults: ClassVar = {"batch": 8, "lr": 1e-3, "weight_decay": 0.01}

    def __init__(self) -> None:
        self._pipelines: dict[Path, Any] = {}  # of the packages whose results were drawn

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, augmentation, backbone, engine."""
        data = parser.add_argument_group("data")
        data.add_argument(
            "--data", required=True, metavar="DIR", help="a folder with images/ and masks/, PNG files of class indices"
        )
        data.add_argument(
            "--held-out",
            type=float,
            default=0.1,
            help="share of --data that is not trained on, where it has no folders train and val (default: 0.1)",
        )
        data.add_argument(
            "--labels", nargs="+", metavar="NAME", help="names of the classes (default: the lines of DIR/labels.txt)"
        )
        _add_reading_arguments(data)
        add_size_argument(data)
        data.add_argument(
            "--scale",
            type=float,
            nargs=2,
            default=[0.5, 2.0],
            metavar=("LEAST", "MOST"),
            help="enlargement at random, then a crop (default: 0.5 2.0)",
        )
        data.add_argument(
            "--flip", action=argparse.BooleanOptionalAction, default=True, help="mirror every second image"
        )
        model = parser.add_argument_group("model")
        model.add_argument("--backbone", metavar="NAME", help="family or variant of the encoder, such as vmamba-mini")
        add_engine_argument(parser)

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Images with masks, and a model for their classes."""
        from mambasdk_vision.segmentation.augmentation import SceneAugmentation
        from mambasdk_vision.segmentation.task import SegmentationTask

        if options.batch < 2:
            raise InvalidArgumentError(
                "one image a step", where="--batch", expected="2 or more, over which batch norm takes its mean"
            )
        start = Start.of(args)
        train, held_out = _data(args)
        entry = _entry(args, start)
        known = args.labels or read_labels(args.data) or start.labels
        parts = [
            SegmentedImages(
                part, entry, classes=len(known) if known else None, reduce_zero_label=args.reduce_zero_label
            )
            for part in (train, held_out)
        ]
        (seen, unseen), found = readable_pairs(parts, skip_bad=args.skip_bad)
        labels = known or [f"class {index}" for index in range(found)]
        if len(labels) < 2:
            raise InvalidArgumentError(
                f"{len(labels)} class in the masks",
                where="--data",
                expected="indices 0, 1, …; 255 is ignored",
                way_out="write 1, not 255, where there is something",
            )
        model = _model(args, start, labels, entry["size"])
        task = SegmentationTask(
            model,
            seen,
            unseen,
            labels,
            entry,
            batch=options.batch,
            seed=options.seed,
            augmentation=SceneAugmentation(tuple(args.scale), args.flip),
        )
        counts = len(seen), len(unseen)
        return TaskRun(
            model,
            task,
            processors={"image": entry},
            head_options={"labels": labels},
            engine=None if args.engine == "auto" else args.engine,
            curve={"loss_label": "cross entropy", "metric": "mIoU"},
            report=lambda trained: {
                "classes": labels,
                "train_images": counts[0],
                "held_out_images": counts[1],
                "images": trained.result.units,
                "images_per_second": trained.result.units_per_second,
                "mIoU": trained.metrics["mIoU"],
                "pixel_accuracy": trained.metrics["pixel_accuracy"],
            },
            held_out=lambda trained: (
                f"mIoU {trained.metrics['mIoU']:.3f}, {trained.metrics['pixel_accuracy']:.1%} of the pixels of "
                f"{counts[1]} images right, {len(labels)} classes"
            ),
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """How masks are read."""
        _add_reading_arguments(parser.add_argument_group("data"))

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """Scores of the images and masks of a folder: `args.data` is one folder."""
        from mambasdk_vision.segmentation.evaluation import evaluate

        return evaluate(args)

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Write the PNG `out`: the image, the classes over it and their shares.

        The class map is no part of what the head says in JSON, so the package is run again.
        """
        from mambasdk.pipeline import load_pipeline
        from mambasdk_vision.drawing.masks import draw_masks

        if package not in self._pipelines:
            self._pipelines[package] = load_pipeline(package)
        made = self._pipelines[package].run({"image": file.read_bytes()})
        draw_masks(file, result, made["class_map"], made["palette"], out)


def _add_reading_arguments(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--reduce-zero-label", action="store_true", help="index 0 of a mask is no class, 1 is the first (ADE20K)"
    )
    add_skip_bad_argument(data)


def _data(args: argparse.Namespace) -> tuple[ImageMasks, ImageMasks]:
    train, held_out = read_pairs(args.data)
    return split_pairs(train, args.held_out, args.seed) if held_out is None else (train, held_out)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the arguments say about a new model, under the names that heads use."""
    from mambasdk.models import find_model

    if args.backbone is None:
        return {}
    if "backbone" not in _fields(find_model(args.model)[0]):
        raise InvalidArgumentError(f"{args.model} has no backbone to choose", where="--backbone")
    return {"backbone": args.backbone}


def _fields(family: Any) -> set[str]:
    import dataclasses

    from mambasdk.plugins import resolve

    return {field.name for field in dataclasses.fields(resolve(family.config))}


def _entry(args: argparse.Namespace, start: Start) -> dict[str, Any]:
    """The processor entry: the size that is asked for, else that of the model to be."""
    from mambasdk.models import create_model
    from mambasdk_vision.model import image_size

    old = start.processor("image") or {}
    size = size_of(args) or old.get("size")
    if size is None:
        model = start.model
        if model is None:
            model = create_model(args.model, device="meta", **{**_settings(args), **args.overrides})
        size = image_size(model)
    normalisation = {name: old.get(name, value) for name, value in _NORMALISATION.items()}
    sides = [size, size] if isinstance(size, int) else list(size)
    return {"kind": "image", "size": sides, **_PREPARATION, **normalisation}


def _model(args: argparse.Namespace, start: Start, labels: list[str], size: list[int]) -> Any:
    """The model to train: new, or that of a package with an end for these classes."""
    from mambasdk.lowering import as_model
    from mambasdk_vision.model import Segmenter, image_size

    model: Any = start.model
    if model is None:
        model = start_model(args, {"num_classes": len(labels), "image_size": size, **_settings(args)})
    elif args.backbone is not None:
        raise InvalidArgumentError("--backbone has no effect on a package", where="train")
    if not issubclass(type(model), Segmenter):
        raise InvalidArgumentError(f"{args.model} gives no logits of pixels", where="train", expected="such as upernet")
    if tuple(size) != image_size(model):
        model = as_model(model).resized(image=tuple(size))
    # Other labels need another last layer, even where they are as many.
    if (
        start.model is not None
        and start.labels != labels
        and not (start.labels is None and as_model(model).classes == len(labels))
    ):
        model = as_model(model).with_classes(len(labels))
    return model

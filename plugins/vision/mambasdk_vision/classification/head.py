"""The head `image_classification`: `mambasdk train` on folders of images, pictures for `predict --plot`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError, LoweringError
from mambasdk.training import add_training_arguments, check_output, options_from_arguments, run_from_arguments
from mambasdk_vision.classification.augmentation import Augmentation
from mambasdk_vision.classification.drawing import draw_labels
from mambasdk_vision.classification.folder import ClassFolders, read_folders, split

_SIZE_FIELD = {"vim": "img_size", "vmamba": "imgsize"}
_NORMALISATION = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class ImageClassificationHead:
    """Labels of images."""

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, augmentation, length of the run, optimiser, checkpoints."""
        data = parser.add_argument_group("data")
        data.add_argument("--data", required=True, metavar="DIR", help="a folder of PNG and JPEG files for each class")
        data.add_argument("--test", metavar="DIR", help="the same, not trained on (default: a part of --data)")
        data.add_argument(
            "--held-out", type=float, default=0.1, help="share of --data that is not trained on (default: 0.1)"
        )
        data.add_argument(
            "--size", type=int, nargs="+", metavar="PIXELS", help="side of the images, or height and width"
        )
        data.add_argument(
            "--flip", action=argparse.BooleanOptionalAction, default=True, help="mirror every second image"
        )
        data.add_argument(
            "--shift", type=float, default=0.125, help="most movement, share of the side (default: 0.125)"
        )
        data.add_argument("--label-smoothing", type=float, default=0.1, help="(default: 0.1)")
        data.add_argument("--top-k", type=int, default=5, help="labels that the package names (default: 5)")
        parser.add_argument(
            "--engine",
            choices=("auto", "native", "aoti", "torch"),
            default="auto",
            help="of the package (default: native where the family has it, else aoti)",
        )
        add_training_arguments(parser, batch=32, lr=1e-3, weight_decay=0.05)

    def train(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Train and save a package."""
        from mambasdk.training import Trainer, write_curve
        from mambasdk_vision.classification.task import ImageClassificationTask

        out = check_output(args)
        options = options_from_arguments(args)
        train, held_out = _data(args)
        model, entry = _model(args, train.classes)
        task = ImageClassificationTask(
            model,
            train,
            held_out,
            entry,
            batch=options.batch,
            seed=options.seed,
            augmentation=Augmentation(args.flip, args.shift),
            label_smoothing=args.label_smoothing,
        )
        trainer = Trainer(model, task, options)
        result = run_from_arguments(trainer, args)
        engine = _save(model, out, args, entry, train.classes)
        if args.curve:
            write_curve(args.curve, result, unit="images", loss_label="cross entropy", metric="accuracy")
        metrics = result.metrics
        report = {
            "package": str(out),
            "engine": engine,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "classes": train.classes,
            "train_images": len(train),
            "held_out_images": len(held_out),
            "steps": result.steps,
            "images": result.units,
            "images_per_second": result.units_per_second,
            "accuracy": metrics["accuracy"],
            "loss": metrics["loss"],
        }
        if not args.json:
            print(f"{out}: {report['parameters']:,} parameters, {result.steps} steps, {result.units:,} images")
            print(f"held out: {metrics['accuracy']:.1%} of {len(held_out)} images right, {len(train.classes)} classes")
        return report

    def add_generate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """There is nothing to generate."""

    def generate(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Classifiers generate nothing: raises InvalidArgumentError."""
        raise InvalidArgumentError(
            "a classifier generates nothing", where=args.model, way_out="mambasdk predict PACKAGE FILE…"
        )

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
    import torch

    from mambasdk.cli.arguments import is_package
    from mambasdk.models import create_model, find_model
    from mambasdk.package import Manifest, load
    from mambasdk_vision.adaptation import adapted

    torch.manual_seed(args.seed)
    size = _size(args)
    if not is_package(args.model):
        family, _ = find_model(args.model)
        field = _SIZE_FIELD.get(family.name)
        sized = {field: list(size)} if size and field else {}
        model = create_model(args.model, device=args.device, num_classes=len(classes), **{**sized, **args.overrides})
        return model, _entry(size or _built_for(model), _NORMALISATION)
    if args.overrides:
        raise InvalidArgumentError(
            "--set has no effect on a package", where="train", way_out="give a family to start a new model"
        )
    manifest = Manifest.read(args.model)
    model = load(args.model, device=args.device, dtype=torch.float32)
    old = manifest.processors.get("image", {})
    labels = (manifest.head_options or {}).get("labels")
    changes: dict[str, Any] = {}
    if labels != classes:
        changes["num_classes"] = len(classes)
    if size and manifest.family in _SIZE_FIELD:
        changes[_SIZE_FIELD[manifest.family]] = list(size)
    elif size and size != tuple(_built_for(model)):
        raise InvalidArgumentError(
            f"models of family {manifest.family} keep their image size",
            where="train --size",
            expected=tuple(_built_for(model)),
            got=size,
        )
    if changes:
        model = adapted(model, **changes)
    if labels not in (None, classes):
        _draw_last_layer_anew(model)
    normalisation = {name: old[name] for name in _NORMALISATION if name in old} if old else _NORMALISATION
    return model, _entry(size or old.get("size") or _built_for(model), normalisation)


def _draw_last_layer_anew(model: Any) -> None:
    """Other labels need another last layer, even where they are as many."""
    import torch

    end = model.head if hasattr(model, "head") else model.classifier["head"]
    torch.nn.init.trunc_normal_(end.weight, std=0.02)
    torch.nn.init.zeros_(end.bias)


def _size(args: argparse.Namespace) -> tuple[int, int] | None:
    if not args.size:
        return None
    if len(args.size) > 2 or min(args.size) < 1:
        raise InvalidArgumentError("bad --size", expected="one side, or height and width", got=args.size)
    return args.size[0], args.size[-1]


def _built_for(model: Any) -> tuple[int, int]:
    """(height, width) that the model was built for."""
    size: tuple[int, int] = model.config.image_size
    return size


def _entry(size: Any, normalisation: Mapping[str, Any]) -> dict[str, Any]:
    sides = [size, size] if isinstance(size, int) else list(size)
    return {"kind": "image", "size": sides, **normalisation}


def _save(model: Any, out: Path, args: argparse.Namespace, entry: dict[str, Any], classes: list[str]) -> str:
    """Save the package; what was learnt is saved for Python at least."""
    from mambasdk.package import save_package

    def write(engine: str) -> str:
        save_package(
            model,
            out,
            processors={"image": entry},
            head_options={"labels": classes, "top_k": min(args.top_k, len(classes))},
            engine=engine,
            overwrite=args.overwrite,
        )
        return engine

    wanted: str = args.engine
    if wanted == "auto":
        wanted = "native" if hasattr(model, "lower") else "aoti"
    try:
        return write(wanted)
    except LoweringError as error:
        print(f"saved for Python alone: {error}", file=sys.stderr)
        return write("torch")

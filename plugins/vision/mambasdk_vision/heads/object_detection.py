"""The head `object_detection`: training on labelled boxes, scores, and predictions in the words of `yolo`."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import InvalidArgumentError
from mambasdk.package.manifest import Manifest
from mambasdk.training import Start, TaskHead, TaskRun, TrainingOptions, start_model
from mambasdk.training.readable import add_skip_bad_argument
from mambasdk_vision.detection.augmentation import add_augmentation_arguments, augmentation_from
from mambasdk_vision.detection.label_output import write_labels
from mambasdk_vision.detection.pixels import LabelledPixels, readable_pixels
from mambasdk_vision.detection.reading import add_data_arguments, read_training_data
from mambasdk_vision.drawing.boxes import draw_boxes

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation
    from mambasdk.training import Trained


class ObjectDetectionHead(TaskHead):
    """Boxes of objects."""

    defaults: ClassVar = {
        "batch": 16, "lr": 1e-3, "final_lr": 0.01, "warmup": 0.05, "weight_decay": 5e-4, "clip": 10.0,
        "beta1": 0.9, "beta2": 0.999, "ema": 0.9999,
    }  # fmt: skip

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, size, length in epochs, augmentation, engine, pictures."""
        data = parser.add_argument_group("data")
        add_data_arguments(data)
        add_skip_bad_argument(data)
        data.add_argument(
            "--imgsz", "--size", type=int, nargs="+", dest="size", metavar="PIXELS",
            help="side of the images, or height and width, multiples of 32",
        )  # fmt: skip
        data.add_argument("--epochs", type=int, help="end after so many passes over the images, instead of --steps")
        add_augmentation_arguments(parser)
        parser.add_argument(
            "--engine",
            choices=("auto", "native", "aoti", "torch"),
            default="auto",
            help="of the package (default: native, or torch where the native engine lacks an operation)",
        )
        parser.add_argument(
            "--pictures",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="draw curves, confusions and predictions beside labels into OUT.pictures",
        )

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """As every head's; the package gets the weights of the best AP, unless --last."""
        super().add_train_arguments(parser)
        parser.add_argument(
            "--last", dest="best", action="store_const", const=None, help="the package gets the last weights instead"
        )
        parser.add_argument("--lr0", dest="lr", type=float, default=argparse.SUPPRESS, help="the same as --lr")
        parser.set_defaults(best="")

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Labelled images, and a model for their classes."""
        from mambasdk_vision.detection.task import ObjectDetectionTask

        train, held_out = read_training_data(args)
        if train.empty_boxes + held_out.empty_boxes:
            print(f"left out {train.empty_boxes + held_out.empty_boxes} boxes of no size", file=sys.stderr)
        if not train.objects:
            raise InvalidArgumentError("no image has an object", where="--data")
        model, entry = _model(args, train.classes)
        parts = [LabelledPixels(part, entry) for part in (train, held_out)]
        seen, unseen = readable_pixels(parts, skip_bad=args.skip_bad)
        epoch = max(math.ceil(len(seen) / options.batch), 1)
        if args.epochs is not None:
            if args.epochs < 1:
                raise InvalidArgumentError("bad --epochs", expected="1 or more", got=args.epochs)
            options = dataclasses.replace(options, steps=args.epochs * epoch)
        task = ObjectDetectionTask(
            model,
            seen,
            unseen,
            entry,
            batch=options.batch,
            seed=options.seed,
            augmentation=augmentation_from(args),
            close_mosaic=_close_mosaic(args.close_mosaic, epoch, options.steps),
        )
        classes, counts = train.classes, (len(seen), len(unseen))
        return TaskRun(
            model,
            task,
            processors={"image": entry},
            head_options={"labels": classes},
            engine=None if args.engine == "auto" else args.engine,
            curve={"loss_label": "loss", "metric": "AP50"},
            options=options,
            report=lambda trained: {
                "classes": classes,
                "train_images": counts[0],
                "held_out_images": counts[1],
                "images": trained.result.units,
                "images_per_second": trained.result.units_per_second,
                **{name: trained.metrics[name] for name in task.goals},
                "pictures": _pictures(args, task, unseen, trained) if args.pictures else {},
            },
            held_out=lambda trained: (
                f"AP {trained.metrics['AP']:.3f}, AP50 {trained.metrics['AP50']:.3f} of {counts[1]} images"
            ),
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Which part of the data, and which boxes count."""
        parser.add_argument("--images", metavar="DIR", help="folder of the images of a COCO file")
        parser.add_argument(
            "--split", choices=("train", "val", "test"), help="part of data.yaml or of VOC's lists (default: val)"
        )
        parser.add_argument("--conf", type=float, default=0.001, help="least score of a box (default: 0.001)")
        parser.add_argument("--iou", type=float, default=0.7, help="overlap of suppression (default: 0.7)")
        parser.add_argument("--max-det", type=int, default=300, help="most boxes of an image (default: 300)")
        add_skip_bad_argument(parser)  # type: ignore[arg-type]

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """COCO's and VOC's scores of labelled images: `args.data` is one data.yaml, COCO file or VOC folder."""
        from mambasdk_vision.detection.evaluation import evaluate

        return evaluate(args)

    def add_predict_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Which boxes are reported, and their text files."""
        group = parser.add_argument_group("detection")
        group.add_argument("--conf", type=float, help="least score of a box (default: 0.25)")
        group.add_argument("--iou", type=float, help="overlap of suppression (default: the package's)")
        group.add_argument(
            "--classes", action="append", metavar="CLASS,…", help="report these alone, by number or name"
        )
        group.add_argument("--max-det", type=int, help="most boxes of an image (default: 300)")
        group.add_argument(
            "--agnostic-nms", action="store_true", help="boxes of different classes suppress each other too"
        )
        group.add_argument(
            "--save-txt", metavar="DIR", help="write NAME.txt of each image: class, centre, size in shares"
        )
        group.add_argument("--save-conf", action="store_true", help="with the score as a sixth column")

    def predict_options(self, args: argparse.Namespace, package: Path) -> dict[str, Any]:
        """Options of the native head."""
        given = {
            "score_threshold": args.conf,
            "iou_threshold": args.iou,
            "max_detections": args.max_det,
            "agnostic": True if args.agnostic_nms else None,
            "only_classes": None if args.classes is None else _indices(args.classes, package),
        }
        if args.save_txt:
            try:
                Path(args.save_txt).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidArgumentError(
                    f"cannot be made: {error.strerror or error}", where=f"--save-txt {args.save_txt}"
                ) from error
        return {name: value for name, value in given.items() if value is not None}

    def save(self, args: argparse.Namespace, name: str, data: Any, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write the text file of an image, which `--save-txt` asks for."""
        if not args.save_txt:
            return {}
        target = Path(args.save_txt) / f"{name}.txt"
        write_labels(target, data, result["detections"], scores=args.save_conf)
        return {"labels": str(target)}

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Write the PNG `out`: the image and its boxes with labels and scores."""
        draw_boxes(file, result, out)


def _indices(given: list[str], package: Path) -> list[int]:
    """Classes by number or by name, or several with commas."""
    labels = (Manifest.read(package).head_options or {}).get("labels") or []
    found = []
    parts = [[text] if text in labels else text.split(",") for text in given]
    for word in (word.strip() for part in parts for word in part):
        if word.isdecimal() and word not in labels:
            index = int(word)
        elif word in labels:
            index = labels.index(word)
        else:
            index = -1
        if index < 0 or (labels and index >= len(labels)):
            expected = f"0 to {len(labels) - 1}, or {', '.join(labels[:20])}" if labels else "a number"
            raise InvalidArgumentError("no such class", where=f"--classes {word}", expected=expected)
        found.append(index)
    return found


def _close_mosaic(epochs: int, epoch: int, steps: int | None) -> int | None:
    """The step from which there is no mosaic; None where a run ends by the clock alone."""
    if epochs < 0:
        raise InvalidArgumentError("bad --close-mosaic", expected="0 or more", got=epochs)
    return None if steps is None else max(steps - epochs * epoch, steps // 2)


def _pictures(args: argparse.Namespace, task: Any, unseen: LabelledPixels, trained: Trained) -> dict[str, str]:
    """Draw what `evaluate --plot` draws, and the curve; where each picture is."""
    import torch

    from mambasdk.training import write_curve
    from mambasdk.training.distributed import rank
    from mambasdk_vision.detection.evaluation import detection_evaluation

    if rank():
        return {}
    folder = Path(f"{Path(args.out)}.pictures")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with torch.no_grad():
            evaluation = detection_evaluation(unseen.data, task.predict())
        made = {name: folder / f"{name}.png" for name in (*evaluation.pictures, "curve")}
        for name, draw in evaluation.pictures.items():
            draw(made[name])
        write_curve(made["curve"], trained.result, unit=task.unit, metric="AP50")
    except ImportError as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return {}
    return {name: str(path) for name, path in made.items()}


def _model(args: argparse.Namespace, classes: list[str]) -> tuple[Any, dict[str, Any]]:
    """The model to train and its processor entry: new, or that of a package with an end for these classes."""
    from mambasdk.lowering import as_model
    from mambasdk_vision.detector import Detector
    from mambasdk_vision.model import image_size

    size, start = _size(args), Start.of(args)
    model: Any = start.model
    if model is None:
        sized = {"image_size": list(size)} if size else {}
        model = start_model(args, {"num_classes": len(classes), **sized})
    if not isinstance(model, Detector):
        raise InvalidArgumentError(f"{type(model).__name__} is no detector", where=args.model)
    contract = as_model(model)
    # Other classes need another end, even where they are as many.
    others = start.labels is not None or contract.classes != len(classes)
    if start.model is not None and start.labels != classes and others:
        model = contract.with_classes(len(classes))
    entry = dict(start.processor("image") or as_model(model).package_processors()["image"])
    entry["size"] = list(size or _sides(entry.get("size")) or image_size(model))
    if any(side % model.multiple for side in entry["size"]):
        raise InvalidArgumentError(
            "bad --imgsz", expected=f"multiples of {model.multiple}", got=" ".join(map(str, entry["size"]))
        )
    return model, {**entry, "resize": "letterbox"}


def _sides(size: Any) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size


def _size(args: argparse.Namespace) -> tuple[int, int] | None:
    if not args.size:
        return None
    if len(args.size) > 2 or min(args.size) < 1:
        raise InvalidArgumentError("bad --imgsz", expected="one side, or height and width", got=args.size)
    return args.size[0], args.size[-1]

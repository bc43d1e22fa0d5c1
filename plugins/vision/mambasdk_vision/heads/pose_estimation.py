"""The head `pose_estimation`: `mambasdk train` on COCO keypoint files, pictures with skeletons for `predict --plot`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import Start, TaskHead, TaskRun, TrainingOptions, refuse_other_targets, start_model
from mambasdk.training.readable import add_skip_bad_argument
from mambasdk_vision.drawing.skeletons import draw_skeletons
from mambasdk_vision.pose.augmentation import CropAugmentation
from mambasdk_vision.pose.coco import PoseData, read_coco, split
from mambasdk_vision.pose.crops import PersonCrops, WholeImages
from mambasdk_vision.pose.keypoints import KeypointSet

if TYPE_CHECKING:
    from torch import nn

    from mambasdk.evaluation import Evaluation


class PoseHead(TaskHead):
    """What the heads of poses share. A subclass says how images are cut, and has `task`, `default_sigma`, `evaluate`.

    crops: what the model sees of a data set's images.
    """

    crops: ClassVar[type[PersonCrops] | type[WholeImages]]

    def task(
        self,
        model: nn.Module,
        train: Any,
        held_out: Any,
        *,
        batch: int,
        seed: int,
        augmentation: CropAugmentation,
        sigma: float,
    ) -> Any:
        """The task of the Trainer; train and held_out are `crops`."""
        raise NotImplementedError

    def default_sigma(self, height: int) -> float:
        """Of the target's Gaussians, in pixels of a heat map, for images of this height."""
        raise NotImplementedError

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, model, augmentation, engine."""
        data = parser.add_argument_group("data")
        data.add_argument("--data", required=True, metavar="DIR", help="the folder of the images")
        data.add_argument("--annotations", required=True, metavar="FILE", help="their people as COCO keypoint JSON")
        data.add_argument("--test-annotations", metavar="FILE", help="people not trained on (default: --held-out)")
        data.add_argument("--test", metavar="DIR", help="the folder of their images (default: --data)")
        data.add_argument(
            "--held-out", type=float, default=0.1, help="share of the images that is not trained on (default: 0.1)"
        )
        add_skip_bad_argument(data)
        model = parser.add_argument_group("model")
        model.add_argument("--backbone", metavar="NAME", help="the encoder, a family or a variant")
        model.add_argument("--size", type=int, nargs="+", metavar="PIXELS", help="height and width of a crop")
        model.add_argument(
            "--sigma",
            type=float,
            help="of the target's Gaussians, pixels of a heat map (default: as published, 1 or more)",
        )
        crop = CropAugmentation()
        more = parser.add_argument_group("augmentation")
        more.add_argument(
            "--flip", action=argparse.BooleanOptionalAction, default=crop.flip, help="mirror every second crop"
        )
        for name, what in (
            ("scale", "most change of size, share"),
            ("rotation", "largest angle, degrees"),
            ("shift", "most movement, share of the side"),
            ("half_body", "share of crops of half a body"),
        ):
            value = getattr(crop, name)
            more.add_argument(
                f"--{name.replace('_', '-')}", type=float, default=value, help=f"{what} (default: {value})"
            )
        parser.add_argument(
            "--engine",
            choices=("auto", "native", "aoti", "torch"),
            default="auto",
            help="of the package (default: native, or torch where the native engine lacks an operation)",
        )

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """People by their annotations, and a model for their keypoints."""
        train, held_out = _data(args)
        augmentation = CropAugmentation(args.flip, args.scale, args.rotation, args.shift, args.half_body)
        model, entry = _model(args, train.keypoint_set)
        seen, unseen = (self.crops(part, entry, skip_bad=args.skip_bad) for part in (train, held_out))
        task = self.task(
            model,
            seen,
            unseen,
            batch=options.batch,
            seed=options.seed,
            augmentation=augmentation,
            sigma=args.sigma or max(self.default_sigma(entry["size"][0]), 1.0),
        )
        counts, unit = (len(seen), len(unseen)), self.crops.unit
        return TaskRun(
            model,
            task,
            processors={"image": entry},
            head_options=train.keypoint_set.head_options(),
            engine=None if args.engine == "auto" else args.engine,
            curve={"loss_label": "squared error", "metric": "AP"},
            report=lambda trained: {
                "keypoints": list(train.keypoint_set.names),
                f"train_{unit}": counts[0],
                f"held_out_{unit}": counts[1],
                f"{unit}_per_second": trained.result.units_per_second,
                **trained.metrics,
            },
            held_out=lambda trained: (
                f"{', '.join(f'{name} {value:.3f}' for name, value in trained.metrics.items())} of {counts[1]} {unit}"
            ),
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The people of the images."""
        parser.add_argument("--annotations", required=True, metavar="FILE", help="the people as COCO keypoint JSON")
        add_skip_bad_argument(parser)

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """COCO's scores of the package `args.model`."""
        raise NotImplementedError

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """Write the PNG `out`: the image and the people's skeletons."""
        draw_skeletons(file, result, out)


class PoseEstimationHead(PoseHead):
    """Keypoints of people, top-down: each from the crop of its box."""

    defaults: ClassVar = {"batch": 32, "lr": 5e-4, "weight_decay": 0.01}
    crops = PersonCrops

    def task(
        self,
        model: nn.Module,
        train: Any,
        held_out: Any,
        *,
        batch: int,
        seed: int,
        augmentation: CropAugmentation,
        sigma: float,
    ) -> Any:
        """See PoseHead."""
        from mambasdk_vision.pose.task import PoseTask

        return PoseTask(model, train, held_out, batch=batch, seed=seed, augmentation=augmentation, sigma=sigma)

    def default_sigma(self, height: int) -> float:
        """2 of 64 rows and 3 of 96 (arXiv 1804.06208)."""
        return 2.0 / 64 * height / 4

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The people, and whether mirrored crops are looked at too."""
        super().add_evaluate_arguments(parser)
        parser.add_argument(
            "--flip-test", action=argparse.BooleanOptionalAction, default=True, help="average with mirrored crops"
        )

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """COCO's scores of the people in `args.annotations`, whose boxes are given; `args.data` is one folder."""
        from mambasdk_vision.pose.evaluation import evaluate

        return evaluate(args)


def _data(args: argparse.Namespace) -> tuple[PoseData, PoseData]:
    data = read_coco(args.data, args.annotations, skip_bad=args.skip_bad)
    if args.test_annotations:
        folder = args.test or args.data
        return data, read_coco(folder, args.test_annotations, keypoint_set=data.keypoint_set, skip_bad=args.skip_bad)
    if args.test:
        raise InvalidArgumentError("--test without --test-annotations", way_out="give the file of its people")
    return split(data, args.held_out, args.seed)


def _model(args: argparse.Namespace, keypoint_set: KeypointSet) -> tuple[Any, dict[str, Any]]:
    """The model to train and its processor entry: new, or that of a package for these keypoints."""
    from mambasdk.lowering import as_model
    from mambasdk_vision.model import adapted, image_size

    size, start = _size(args), Start.of(args)
    count = len(keypoint_set)
    if start.model is None:
        named = {"backbone": args.backbone} if args.backbone else {}
        sized = {"image_size": list(size)} if size else {}
        model: Any = start_model(args, {"keypoints": count, **named, **sized})
        return model, dict(as_model(model).package_processors()["image"])
    model = start.model
    if args.backbone:
        raise InvalidArgumentError("--backbone has no effect on a package", way_out="give a family to start anew")
    names = ((start.manifest.head_options if start.manifest else None) or {}).get("names")
    if names:
        refuse_other_targets(args, ", ".join(keypoint_set.names), ", ".join(names))
    if model.config.keypoints != count:
        model = adapted(model, keypoints=count)
    if size and size != image_size(model):
        model = as_model(model).resized(image=size)
    entry = {**as_model(model).package_processors()["image"], **(start.processor("image") or {})}
    return model, {**entry, "size": list(image_size(model))}


def _size(args: argparse.Namespace) -> tuple[int, int] | None:
    if not args.size:
        return None
    if len(args.size) > 2 or min(args.size) < 1:
        raise InvalidArgumentError("bad --size", expected="one side, or height and width", got=args.size)
    return args.size[0], args.size[-1]

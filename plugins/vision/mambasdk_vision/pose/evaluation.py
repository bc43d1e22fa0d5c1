"""`mambasdk evaluate` of pose models: COCO's scores, and PCK of every keypoint where boxes are given. Needs torch."""

from __future__ import annotations

import argparse
from typing import Any, TypeVar

import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation
from mambasdk.package import Manifest, load
from mambasdk_vision.pose.bottom_up_task import BottomUpTask
from mambasdk_vision.pose.coco import read_coco
from mambasdk_vision.pose.crops import PersonCrops, WholeImages
from mambasdk_vision.pose.keypoints import KeypointSet
from mambasdk_vision.pose.metrics import average_precision, correct_keypoints
from mambasdk_vision.pose.task import PoseTask, scored


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the top-down package `args.model`: people of `args.annotations` in the folder `args.data`, by their boxes."""
    model, crops = _package(args, PersonCrops)
    names = crops.data.keypoint_set.names
    task = PoseTask(model, crops, crops, batch=args.batch, flip_test=args.flip_test)
    with torch.no_grad():
        found, scores, _ = task.predict()
    truth, boxes = crops.data.keypoints[crops.people], crops.data.boxes[crops.people]
    right, seen = correct_keypoints(found, truth, boxes)
    rows = [
        {"keypoint": name, "PCK": float(hits / count) if count else float("nan"), "annotated": int(count)}
        for name, hits, count in zip(names, right, seen, strict=True)
    ]
    return Evaluation(
        scored(crops, found, scores),
        data={"images": len(crops.data.files), "people": len(crops)},
        tables={"keypoints": rows},
    )


def evaluate_bottom_up(args: argparse.Namespace) -> Evaluation:
    """Of the bottom-up package `args.model`: people found in the images that `args.annotations` names."""
    model, images = _package(args, WholeImages)
    with torch.no_grad():
        poses, _ = BottomUpTask(model, images, images, batch=args.batch).predict()
    people = sum(int((~image.ignored).sum()) for image in poses)
    return Evaluation(
        average_precision(poses, images.data.keypoint_set.sigmas),
        data={"images": len(images), "people": people, "found": sum(len(image.found) for image in poses)},
    )


_Kind = TypeVar("_Kind", PersonCrops, WholeImages)


def _package(args: argparse.Namespace, kind: type[_Kind]) -> tuple[Any, _Kind]:
    """The package's model, and the data as its processor cuts them. Raises InvalidArgumentError."""
    from mambasdk.command_line import torch_dtype

    if len(args.data) != 1:
        raise InvalidArgumentError("several folders", where="--data", expected="the folder of the images")
    manifest = Manifest.read(args.model)
    entry, names = manifest.processors.get("image"), (manifest.head_options or {}).get("names")
    if entry is None or not names:
        raise InvalidArgumentError(
            "the package names no keypoints or no image processor", where=args.model, way_out="train it on people"
        )
    data = read_coco(args.data[0], args.annotations, keypoint_set=KeypointSet(tuple(names)), skip_bad=args.skip_bad)
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    return model.eval(), kind(data, entry, skip_bad=args.skip_bad)

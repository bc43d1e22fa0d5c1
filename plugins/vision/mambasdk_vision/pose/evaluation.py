"""`mambasdk evaluate` of top-down pose models: COCO's scores and PCK of every keypoint. Needs torch."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation
from mambasdk.package import Manifest, load
from mambasdk_vision.pose.coco import read_coco
from mambasdk_vision.pose.crops import PersonCrops
from mambasdk_vision.pose.keypoints import KeypointSet
from mambasdk_vision.pose.metrics import correct_keypoints
from mambasdk_vision.pose.task import PoseTask, scored


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the people of `args.annotations` in the folder `args.data`, by their boxes."""
    from mambasdk.command_line import torch_dtype

    if len(args.data) != 1:
        raise InvalidArgumentError("several folders", where="--data", expected="the folder of the images")
    manifest = Manifest.read(args.model)
    entry, names = manifest.processors.get("image"), (manifest.head_options or {}).get("names")
    if entry is None or not names:
        raise InvalidArgumentError(
            "the package names no keypoints or no image processor", where=args.model, way_out="train it on people"
        )
    wanted = KeypointSet(tuple(names))
    data = read_coco(args.data[0], args.annotations, keypoint_set=wanted, skip_bad=args.skip_bad)
    crops = PersonCrops(data, entry, skip_bad=args.skip_bad)
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    task = PoseTask(model.eval(), crops, crops, batch=args.batch, flip_test=args.flip_test)
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

"""`mambasdk evaluate` of segmenters: mIoU, scores of each class, confusion matrix of pixels. Needs torch."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation, draw_confusion
from mambasdk.package import Manifest, load
from mambasdk_vision.segmentation.data import SegmentedImages, read_pairs, readable_pairs
from mambasdk_vision.segmentation.metrics import SegmentationScores
from mambasdk_vision.segmentation.task import SegmentationTask


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the images and masks in the folder `args.data`: those held out where it says."""
    from mambasdk.command_line import torch_dtype

    if len(args.data) != 1:
        raise InvalidArgumentError("several folders", where="--data", expected="one folder of images and masks")
    manifest = Manifest.read(args.model)
    options = manifest.head_options or {}
    labels, entry = options.get("labels"), manifest.processors.get("image")
    if not labels or entry is None:
        raise InvalidArgumentError(
            "the package names no labels or no image processor", where=args.model, way_out="train it on masks"
        )
    every, held_out = read_pairs(args.data[0])
    read = SegmentedImages(held_out or every, entry, classes=len(labels), reduce_zero_label=args.reduce_zero_label)
    (data,), _ = readable_pairs([read], skip_bad=args.skip_bad)
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    task = SegmentationTask(model, data, data, labels, entry, batch=args.batch)
    with torch.no_grad():
        loss = task.evaluate()["loss"]
    matrix = task.matrix
    scores = SegmentationScores.of(matrix)
    return Evaluation(
        {**scores.metrics(), "loss": loss},
        data={"images": len(data), "pixels": int(matrix.sum())},
        tables={"classes": scores.rows(labels)},
        details={"confusion_matrix": matrix.tolist(), "labels": list(labels)},
        pictures={"confusion_matrix": lambda path: draw_confusion(path, matrix, labels)},
    )

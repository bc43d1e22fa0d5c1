"""`mambasdk evaluate` of image classifiers: accuracy, scores of each class, confusion matrix. Needs torch."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation, classification
from mambasdk.package import Manifest, load
from mambasdk_vision.classification.folder import read_folders
from mambasdk_vision.classification.task import ImageClassificationTask


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the class folders in the folder `args.data`."""
    from mambasdk.command_line import torch_dtype

    if len(args.data) != 1:
        raise InvalidArgumentError("several folders", where="--data", expected="one folder of class folders")
    manifest = Manifest.read(args.model)
    labels = (manifest.head_options or {}).get("labels")
    entry = manifest.processors.get("image")
    if not labels or entry is None:
        raise InvalidArgumentError(
            "the package names no labels or no image processor", where=args.model, way_out="train it on class folders"
        )
    data = read_folders(args.data[0], labels)
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    task = ImageClassificationTask(model, data, data, entry, batch=args.batch)
    with torch.no_grad():
        logits = task.logits().numpy()
    return classification(data.labels, logits, labels, data={"images": len(data)}, top_k=args.top_k)

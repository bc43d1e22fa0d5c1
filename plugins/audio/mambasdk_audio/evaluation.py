"""`mambasdk evaluate` of audio classifiers: accuracy and confusions, or average precision of taggers. Needs torch."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation, classification
from mambasdk.package import Manifest, load
from mambasdk_audio.training.clips import find_clips
from mambasdk_audio.training.metrics import accuracy, average_precision, mean_average_precision
from mambasdk_audio.training.spectrograms import Spectrograms
from mambasdk_audio.training.tasks import ClassificationTask


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the labelled clips of `args.data`, a folder of class folders or a table."""
    from mambasdk.command_line import torch_dtype

    if len(args.data) != 1:
        raise InvalidArgumentError("several paths", where="--data", expected="one folder of class folders or one table")
    manifest = Manifest.read(args.model)
    options = manifest.head_options or {}
    labels, entry = options.get("labels"), manifest.processors.get("audio")
    if not labels or entry is None:
        raise InvalidArgumentError(
            "the package names no labels or no audio processor", where=args.model, way_out="train it on labelled clips"
        )
    clips = find_clips(args.data[0])
    spectrograms = Spectrograms(clips, entry)
    one_label = options.get("activation") != "sigmoid" and all(len(clip.labels) == 1 for clip in clips)
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    task = ClassificationTask(
        model, spectrograms, spectrograms, labels, batch=args.batch, loss="ce" if one_label else "bce"
    )
    with torch.no_grad():
        logits = task.held_out_logits().numpy()
    targets = task.held_out_targets()
    if one_label:
        return classification(targets.argmax(1), logits, labels, data={"clips": len(clips)}, top_k=args.top_k)
    rows = [
        {
            "label": label,
            "average_precision": average_precision(logits[:, i], targets[:, i] > 0),
            "support": int(np.count_nonzero(targets[:, i])),
        }
        for i, label in enumerate(labels)
        if targets[:, i].any()
    ]
    return Evaluation(
        {
            "mean_average_precision": mean_average_precision(logits, targets),
            "best_label_accuracy": accuracy(logits, targets),
        },
        data={"clips": len(clips)},
        tables={"labels": rows},
    )

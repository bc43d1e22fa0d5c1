"""`mambasdk evaluate` of models of emotions. Needs torch."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation, classification
from mambasdk.package import Manifest, load
from mambasdk_multimodal.conversations import read_conversations
from mambasdk_multimodal.emotion_training import EmotionTask, scores_of


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the conversations in `args.data`; of a file with splits those of its test."""
    from mambasdk.command_line import torch_dtype

    options = Manifest.read(args.model).head_options or {}
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    names = list(model.config.modalities)
    if stray := set(args.without) - set(names):
        raise InvalidArgumentError("no such modality", where="--without", expected=names, got=sorted(stray))
    labels = options.get("labels") or [str(i) for i in range(model.config.n_classes)]
    found = read_conversations(args.data, dict(zip(names, model.config.in_dims, strict=True)))
    if any(each.split == "test" for each in found):
        found = [each for each in found if each.split == "test"]
    task = EmotionTask(model, found, found, labels, batch=args.batch, device=args.device)
    with torch.no_grad():
        targets, logits, weights = task.outputs(found, args.without)
    made = classification(targets, logits, labels, data={"conversations": len(found), "utterances": len(targets)})
    scores = scores_of(targets, logits.argmax(-1), len(labels))
    made.metrics = {"weighted_f1": scores["weighted_f1"], **made.metrics}
    made.tables["modalities"] = [
        {"modality": name, "mean_weight": float(weights[:, m].mean())} for m, name in enumerate(names)
    ]
    return made

"""`mambasdk evaluate` of detectors: COCO's and Pascal VOC's scores, each class, confusions, pictures. Needs torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation
from mambasdk.evaluation.classification import draw_confusion
from mambasdk.package import Manifest, load
from mambasdk_vision.detection.data import DetectionData
from mambasdk_vision.detection.metrics import (
    RECALLS,
    ImageBoxes,
    coco_scores,
    detection_confusion,
    voc_average_precision,
)
from mambasdk_vision.detection.pixels import LabelledPixels, readable_pixels
from mambasdk_vision.detection.reading import read_data
from mambasdk_vision.detection.task import ObjectDetectionTask
from mambasdk_vision.drawing.boxes import draw_beside_labels, draw_precision_recall

_SHOWN = 6  # images in the picture of predictions
_BACKGROUND = "background"


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the labelled images `args.data`."""
    from mambasdk.command_line import torch_dtype

    if len(args.data) != 1:
        raise InvalidArgumentError("several paths", where="--data", expected="one data.yaml, COCO file or VOC folder")
    manifest = Manifest.read(args.model)
    labels = (manifest.head_options or {}).get("labels")
    entry = manifest.processors.get("image")
    if not labels or entry is None:
        raise InvalidArgumentError(
            "the package names no labels or no image processor", where=args.model, way_out="train it on labelled images"
        )
    images = Path(args.images).expanduser() if args.images else None
    data = read_data(Path(args.data[0]).expanduser(), labels, part=args.split, images=images, skip_bad=args.skip_bad)
    pixels = readable_pixels([LabelledPixels(data, entry)], skip_bad=args.skip_bad)[0]
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    task = ObjectDetectionTask(model, pixels, pixels, entry, batch=args.batch)
    with torch.no_grad():
        found = task.predict(iou_threshold=args.iou, score_threshold=args.conf, max_detections=args.max_det)
    return detection_evaluation(pixels.data, found)


def detection_evaluation(data: DetectionData, images: Sequence[ImageBoxes]) -> Evaluation:
    """The evaluation of the boxes that were found on labelled images."""
    classes = data.classes
    coco = coco_scores(images, len(classes))
    voc = {method: [voc_average_precision(images, index, method=method) for index in range(len(classes))]
           for method in ("all", "11")}  # type: ignore[arg-type]  # fmt: skip
    matrix = detection_confusion(images, len(classes))
    counts = np.zeros(len(classes), np.int64)
    for image in images:
        np.add.at(counts, image.classes[~(image.crowd | image.difficult)], 1)
    each = [coco.of_class(index) for index in range(len(classes))]
    rows = [
        {"class": label, "objects": int(counts[index]), **each[index], "VOC_AP50": voc["all"][index]}
        for index, label in enumerate(classes)
    ]
    names = [*classes, _BACKGROUND]
    return Evaluation(
        {**coco.summary(), "VOC_mAP50": _mean(voc["all"]), "VOC_mAP50_11_points": _mean(voc["11"])},
        data={"images": len(images), "objects": int(counts.sum())},
        tables={"classes": rows},
        details={"confusion_matrix": matrix.tolist(), "labels": names},
        pictures={
            "confusion_matrix": lambda path: draw_confusion(path, matrix, names),
            "precision_recall": lambda path: draw_precision_recall(
                path,
                RECALLS,
                np.maximum(coco.precision[0, :, :, 0].T, 0),
                classes,
                [row["AP50"] for row in each],
            ),
            "predictions": lambda path: draw_predictions(path, data, images),
        },
    )


def draw_predictions(path: Path, data: DetectionData, images: Sequence[ImageBoxes], score: float = 0.25) -> None:
    """Write the PNG `path`: the first images with the most objects, their labels beside what was found."""
    order = sorted(range(len(images)), key=lambda index: -min(len(images[index].truth), 8))[:_SHOWN]
    order.sort()

    def shown(boxes: Any, names: Any, scores: Any = None) -> list[dict[str, Any]]:
        return [
            {"box": box.tolist(), "index": int(name), "label": data.classes[int(name)],
             **({} if scores is None else {"score": float(scores[place])})}
            for place, (box, name) in enumerate(zip(boxes, names, strict=True))
            if scores is None or scores[place] >= score
        ]  # fmt: skip

    draw_beside_labels(
        path,
        [data.images[index].file for index in order],
        [shown(images[index].truth, images[index].classes) for index in order],
        [shown(images[index].found, images[index].found_classes, images[index].scores) for index in order],
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")

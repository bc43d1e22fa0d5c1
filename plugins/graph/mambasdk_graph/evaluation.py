"""`mambasdk evaluate` of graph models: scores of classes, ranking metrics of labels, errors of values. Needs torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk.evaluation import Evaluation, classification
from mambasdk.package import Manifest, load
from mambasdk_graph import metrics
from mambasdk_graph.readers import read_graphs
from mambasdk_graph.training import TEST, TRAIN, VALIDATION, GraphTask, Targets

_PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST, None: None}
Array = npt.NDArray[Any]


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the graphs in `args.data`, whose y the package was trained for."""
    from mambasdk.command_line import torch_dtype

    options = Manifest.read(args.model).head_options or {}
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    level, count = model.config.head, model.config.dim_out
    if level not in ("graph", "node"):
        raise InvalidArgumentError(
            f"the package gives outputs of each {level}", where=args.model, expected="of each graph or node"
        )
    graphs = [graph.to(args.device) for graph in read_graphs(args.data)]
    if not graphs:
        raise InvalidArgumentError("no graphs", where="--data")
    if args.split == "all":
        graphs = [graph.replace(split=None) for graph in graphs]
    _check_targets(Targets.of(graphs, level), options, count, args.model)
    # Every graph is both: nothing is trained, and `held_out` is what is measured.
    unsplit = [graph for graph in graphs if level == "graph" or graph.split is None]
    task = GraphTask(model, graphs, unsplit, level=level, batch=args.batch)
    with torch.no_grad():
        y, outputs = task.held_out(_PARTS.get(args.split))
    if not len(y):
        raise InvalidArgumentError("no target to measure by", where="--data", way_out="give another --split or data")
    targets, logits = y.numpy(), outputs.numpy()
    data = {"graphs": len(graphs), task.unit: len(y)} if task.unit != "graphs" else {"graphs": len(y)}
    labels = options.get("labels") or [str(i) for i in range(max(count, 2 if task.targets.kind == "classes" else 1))]
    if task.targets.kind == "classes":
        scores = np.concatenate((np.zeros_like(logits), logits), 1) if count == 1 else logits
        made = classification(targets[:, 0], scores, labels, data=data)
        made.metrics |= {key: value for key, value in task.measure(y, outputs).items() if key not in made.metrics}
        return made
    if task.targets.kind == "labels":
        return Evaluation(task.measure(y, outputs), data=data, tables={"labels": _of_labels(targets, logits, labels)})
    return _of_values(targets, logits, labels, data)


def _check_targets(found: Targets, options: Any, count: int, package: str) -> None:
    """Raise InvalidArgumentError where the data have targets that the package has no outputs for."""
    fits = found.count <= max(count, 2) if found.kind == "classes" else found.count == count
    kinds = {"softmax": "classes", "sigmoid": "labels", "none": "values"}
    trained = kinds.get(options.get("activation"), found.kind)
    if not fits or (trained != found.kind and not (trained == "labels" and found.kind == "classes")):
        raise InvalidArgumentError(
            "the data have other targets",
            where=package,
            expected=f"{count} {trained}",
            got=f"{found.count} {found.kind}",
        )


def _of_labels(y: Array, logits: Array, labels: Sequence[str]) -> list[dict[str, Any]]:
    known = np.where(y < 0, np.nan, y) if y.dtype.kind == "i" else y
    return [
        {
            "label": label,
            "average_precision": metrics.average_precision(known[:, i], logits[:, i]),
            "roc_auc": metrics.roc_auc(known[:, i], logits[:, i]),
            "support": int(np.nansum(known[:, i] > 0.5)),
        }
        for i, label in enumerate(labels)
    ]


def _of_values(y: Array, found: Array, labels: Sequence[str], data: dict[str, Any]) -> Evaluation:
    """Mean absolute and root mean square error, R^2, of all values and of each output."""
    y = y.astype(np.float64)
    rows = []
    for i, label in enumerate(labels):
        known = ~np.isnan(y[:, i])
        error = found[known, i] - y[known, i]
        spread = np.square(y[known, i] - y[known, i].mean()).sum() if known.any() else 0.0
        rows.append(
            {
                "value": label,
                "mean_absolute_error": float(np.abs(error).mean()) if known.any() else float("nan"),
                "root_mean_square_error": float(np.sqrt(np.square(error).mean())) if known.any() else float("nan"),
                "r2": float(1 - np.square(error).sum() / spread) if spread > 0 else float("nan"),
                "support": int(known.sum()),
            }
        )
    every = ~np.isnan(y)
    error = found[every] - y[every]
    return Evaluation(
        {
            "mean_absolute_error": metrics.mean_absolute_error(y, found),
            "root_mean_square_error": float(np.sqrt(np.square(error).mean())) if every.any() else float("nan"),
        },
        data=data,
        tables={"values": rows},
        pictures={"values": lambda path: _draw_values(path, y[every], found[every])},
    )


def _draw_values(path: Path, y: Array, found: Array) -> None:
    """Predicted over true values."""
    require_module("matplotlib", "drawing", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    axes.plot(y, found, ".", color="#08519c", alpha=0.5)
    ends = [min(y.min(), found.min()), max(y.max(), found.max())]
    axes.plot(ends, ends, "--", color="#636363", linewidth=1)
    axes.set(xlabel="target", ylabel="predicted")
    axes.grid(alpha=0.25)
    figure.savefig(path)

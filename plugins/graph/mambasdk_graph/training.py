"""What graph models learn: losses and metrics for labels of graphs and of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import Batches
from mambasdk_graph import metrics
from mambasdk_graph.graph import Graph, collate
from mambasdk_graph.model import GraphModel

Kind = Literal["classes", "labels", "values"]
TRAIN, VALIDATION, TEST = 0, 1, 2
_MAX_CLASSES = 65_536
# The first metric is what the best evaluation is judged by.
GOALS: dict[Kind, dict[str, str]] = {
    "classes": {"accuracy": "max", "macro_f1": "max", "roc_auc": "max"},
    "labels": {"average_precision": "max", "roc_auc": "max"},
    "values": {"mean_absolute_error": "min"},
}
_SAMPLED_GRAPHS = 8


@dataclass(frozen=True)
class Targets:
    """What the targets are. kind: "classes" one of C; "labels" C times yes or no; "values" C numbers.

    count: C, how many outputs a model needs. signed: whole numbers below -1 occur, so -1 is a number like any other;
    else it stands for what is not known.
    """

    kind: Kind
    count: int
    signed: bool = False

    @classmethod
    def of(cls, graphs: Sequence[Graph], level: str) -> Targets:
        """By the graphs' y: whole numbers from 0 in a vector are classes, rows of 0 and 1 labels, others values."""
        ys = [targets_of(graph, level) for graph in graphs]
        signed = any(not y.is_floating_point() and bool((y < -1).any()) for y in ys)
        y = torch.cat(ys)
        if not y.is_floating_point() and y.shape[1] == 1 and not signed:
            count = max(int(y.max()) + 1, 1) if y.numel() else 1
            if count > _MAX_CLASSES:
                raise InvalidArgumentError(
                    f"y has whole numbers up to {count - 1}: as classes they need {count} outputs",
                    where="training",
                    expected=f"at most {_MAX_CLASSES} classes",
                    way_out="write values with a point (3.0), classes as numbers from 0 without gaps",
                )
            return cls("classes", count)
        numbers = torch.cat([_numbers(y, signed) for y in ys])
        known = numbers[~numbers.isnan()]
        if y.shape[1] > 1 and bool(((known == 0) | (known == 1)).all()):
            return cls("labels", y.shape[1])
        return cls("values", y.shape[1], signed)

    def normal(self, y: Tensor) -> Tensor:
        """Y (R, C) as this kind has it: int64 classes, -1 where not known; else float32, NaN where not known."""
        return y if self.kind == "classes" else _numbers(y, self.signed)


def _numbers(y: Tensor, signed: bool) -> Tensor:
    """float32; NaN for -1 among whole numbers, unless `signed`."""
    numbers = y.float()
    return numbers if y.is_floating_point() or signed else torch.where(y < 0, torch.nan, numbers)


def _known(y: Tensor) -> Tensor:
    """Where normal targets are known, bool of y's shape."""
    return ~y.isnan() if y.is_floating_point() else y >= 0


def targets_of(graph: Graph, level: str) -> Tensor:
    """(N, C) of a graph's nodes or (G, C) of its graphs; raises InvalidArgumentError where y does not fit."""
    rows = graph.num_nodes if level == "node" else graph.num_graphs
    if graph.y is None:
        raise InvalidArgumentError("a graph has no y", where="training", expected=f"targets of each {level}")
    y = graph.y
    if level == "graph" and y.shape[:1] != (rows,):
        y = y.reshape(rows, -1) if rows and y.numel() % rows == 0 else y
    y = y.unsqueeze(1) if y.ndim == 1 else y
    if y.ndim != 2 or y.shape[0] != rows:
        raise InvalidArgumentError(
            "bad y", where="training", expected=f"({rows}, …), one row for each {level}", got=tuple(graph.y.shape)
        )
    return y


class GraphTask:
    """A Task (mambasdk.training) of graphs with targets in y.

    level: "graph" or "node", as the model's head. Graphs of `train` are trained on, those of `held_out` evaluated on;
    where nodes have a `split`, it says of each node which of both its target is for. class_weights: weigh classes by
    how rare they are, as LRGB does for superpixels.
    resample: draw new walks in each epoch, so that tokens differ; else each graph is prepared once.
    """

    def __init__(
        self,
        model: GraphModel,
        train: Sequence[Graph],
        held_out: Sequence[Graph] = (),
        *,
        level: str,
        batch: int = 8,
        seed: int = 0,
        class_weights: bool = False,
        resample: bool = False,
    ) -> None:
        if not train:
            raise InvalidArgumentError("no graphs to train on", where="GraphTask")
        self.model = model
        self.level = level
        self.unit = f"{level}s"
        self.targets = Targets.of([*train, *held_out], level)
        self.goals = GOALS[self.targets.kind]
        self.data = f"{len(train):,} graphs, {sum(graph.num_nodes for graph in train):,} nodes" + (
            f", {len(held_out):,} graphs held out" if held_out else ""
        )
        self._resample = resample and model.preparation().get("tokens", False)
        self._raw = list(train)
        self._train = [model.prepare(graph) for graph in train]
        splits = [graph for graph in self._train if graph.split is not None] if level == "node" else []
        self._held_out = [model.prepare(graph) for graph in held_out] + splits
        self._batches = Batches(len(self._train), min(batch, len(self._train)), seed)
        self._weights = self._class_weights() if class_weights and self.targets.kind == "classes" else None

    def loss(self, step: int) -> tuple[Tensor, int]:
        """Mean loss of a batch of graphs; units are graphs or nodes with a target."""
        indices = self._batches.at(step)
        epoch = self._batches.epoch(step)
        graphs = [self._prepared(int(index), epoch) for index in indices]
        batch = collate(graphs)
        chosen = self._chosen(batch, TRAIN)
        y = self._targets_of(batch)[chosen]
        logits = self.model(batch).logits[chosen]
        return self._loss(logits, y), int(chosen.sum())

    def sample_inputs(self) -> tuple[dict[str, Tensor], int]:
        """A batch of the first graphs."""
        graphs = self._train[:_SAMPLED_GRAPHS]
        batch = collate(graphs)
        return {name: getattr(batch, name) for name in self.model.input_shapes()}, len(graphs)

    def evaluate(self) -> dict[str, float]:
        """Metrics over all that is held out; nodes of a test split, or of the validation split where there is none."""
        ys, outputs = self.held_out()
        return self.measure(ys, outputs) if len(ys) else {}

    def held_out(self, part: int | None = None) -> tuple[Tensor, Tensor]:
        """(targets, logits) of all that is held out, (R, C) each.

        part: of nodes with a split; None for test nodes, or validation nodes where a graph has no test nodes.
        """
        ys, outputs = [torch.zeros(0, 1)], [torch.zeros(0, 1)]
        for graph in self._held_out:
            chosen = self._chosen(graph, TEST if part is None else part)
            if part is None and not bool(chosen.any()):
                chosen = self._chosen(graph, VALIDATION)
            ys.append(self._targets_of(graph)[chosen].cpu())
            outputs.append(self.model(graph).logits[chosen].float().detach().cpu())
        return (torch.cat(ys[1:]), torch.cat(outputs[1:])) if len(ys) > 1 else (ys[0], outputs[0])

    def measure(self, y: Tensor, logits: Tensor) -> dict[str, float]:
        """The metrics that fit the targets, of y and logits (R, C)."""
        values = self.targets.normal(y).cpu().numpy()
        if self.targets.kind == "values":
            return {"mean_absolute_error": metrics.mean_absolute_error(values, logits.cpu().numpy())}
        if self.targets.kind == "labels":
            scores = logits.sigmoid().cpu().numpy()
            return {
                "average_precision": metrics.average_precision(values, scores),
                "roc_auc": metrics.roc_auc(values, scores),
            }
        classes = values[:, 0]
        if logits.shape[1] == 1:
            scores = logits[:, 0].sigmoid().cpu().numpy()
            found = (scores > 0.5).astype(np.int64)
            extra = {"roc_auc": metrics.roc_auc(classes, scores)}
        else:
            found = logits.argmax(1).cpu().numpy()
            extra = {"macro_f1": metrics.macro_f1(classes, found, self.targets.count)}
        return {"accuracy": metrics.accuracy(classes, found), **extra}

    def _targets_of(self, graph: Graph) -> Tensor:
        return self.targets.normal(targets_of(graph, self.level))

    def _prepared(self, index: int, epoch: int) -> Graph:
        if not self._resample:
            return self._train[index]
        return self.model.prepare(self._raw[index], epoch=epoch + 1)

    def _chosen(self, graph: Graph, part: int) -> Tensor:
        """(R) bool: rows with a target that count in this part."""
        known = _known(self._targets_of(graph)).any(1)
        if self.level == "graph" or graph.split is None:
            return known
        return known & (graph.split == part)

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        if logits.shape[0] == 0:
            raise InvalidArgumentError(
                "no target in a batch", where="training", way_out="use larger batches, or leave such graphs out"
            )
        if self.targets.kind == "classes":
            if logits.shape[1] == 1:
                return functional.binary_cross_entropy_with_logits(logits[:, 0].float(), y[:, 0].float())
            return functional.cross_entropy(logits.float(), y[:, 0], self._weights)
        known = _known(y)
        if self.targets.kind == "labels":
            return functional.binary_cross_entropy_with_logits(logits.float()[known], y[known])
        return functional.l1_loss(logits.float()[known], y[known])

    def _class_weights(self) -> Tensor:
        """(C): the share of the others; absent classes weigh nothing."""
        y = torch.cat([targets_of(graph, self.level)[self._chosen(graph, TRAIN), 0] for graph in self._train])
        counts = torch.bincount(y, minlength=self.targets.count).float()
        return torch.where(counts > 0, 1 - counts / counts.sum(), 0.0).to(next(self.model.parameters()).device)


def split_graphs(graphs: Sequence[Graph], held_out: float, seed: int) -> tuple[list[Graph], list[Graph]]:
    """Some graphs at random to train on, and the share `held_out` (at least one of two or more) to evaluate on."""
    order = np.random.default_rng(seed).permutation(len(graphs))
    count = min(max(1, round(held_out * len(graphs))), len(graphs) - 1) if held_out > 0 else 0
    picked: Callable[[Any], list[Graph]] = lambda rows: [graphs[int(i)] for i in rows]  # noqa: E731
    return picked(sorted(order[count:])), picked(sorted(order[:count]))


def split_nodes(graph: Graph, held_out: float, seed: int, targets: Targets | None = None) -> Graph:
    """The graph with the share `held_out` of its labelled nodes as test nodes, at random, the others for training.

    targets: of all graphs, where this graph's y alone does not show what they are. The share 0 holds nothing out.
    """
    found = targets or Targets.of([graph], "node")
    known = _known(found.normal(targets_of(graph, "node"))).any(1).nonzero()[:, 0].numpy()
    chosen = np.random.default_rng(seed).permutation(known)
    count = min(max(1, round(held_out * len(known))), len(known) - 1) if held_out > 0 and len(known) else 0
    split = torch.full((graph.num_nodes,), -1)
    split[torch.from_numpy(chosen[:count])] = TEST
    split[torch.from_numpy(chosen[count:])] = TRAIN
    return graph.replace(split=split)

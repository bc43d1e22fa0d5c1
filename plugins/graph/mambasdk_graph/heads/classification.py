"""The heads `graph_classification` and `node_classification`: training from files, and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import Start, TaskHead, TaskRun, TrainingOptions, refuse_other_targets, start_model

if TYPE_CHECKING:
    from mambasdk.evaluation import Evaluation
    from mambasdk_graph.graph import Graph
    from mambasdk_graph.model import GraphModel
    from mambasdk_graph.training import Targets

_METRICS = {"classes": "accuracy", "labels": "average_precision", "values": "mean_absolute_error"}
_ACTIVATIONS = {"classes": "softmax", "labels": "sigmoid", "values": "none"}


class GraphHead(TaskHead):
    """Labels of graphs or of nodes."""

    defaults: ClassVar = {"batch": 16, "lr": 1e-3, "weight_decay": 0.01}

    def add_data_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, what is held out, labels, engine."""
        data = parser.add_argument_group("data")
        data.add_argument(
            "--data",
            nargs="+",
            required=True,
            metavar="PATH",
            help="graphs with targets: .json, .jsonl, .npz, PyTorch Geometric's .pt, folders of CSV tables or of OGB",
        )
        data.add_argument(
            "--test", nargs="+", metavar="PATH", help="graphs to evaluate on (default: --held-out of --data)"
        )
        data.add_argument(
            "--held-out", type=float, default=0.2, help="share of graphs, or of labelled nodes (default: 0.2)"
        )
        data.add_argument("--level", choices=("graph", "node"), help="what has labels (default: as y fits)")
        data.add_argument("--labels", help="names of the classes, with commas (default: their numbers)")
        data.add_argument("--class-weights", action="store_true", help="weigh classes by how rare they are")
        data.add_argument("--resample", action="store_true", help="new random walks in each epoch (gmn)")
        data.add_argument(
            "--engine",
            choices=("torch", "aoti"),
            default="torch",
            help="what runs the package: aoti is compiled (a minute), for `mambasdk predict` and C++ (default: torch)",
        )

    def prepare(self, args: argparse.Namespace, options: TrainingOptions) -> TaskRun:
        """Graphs with targets, and a model with as many outputs."""
        from mambasdk_graph.readers import read_graphs
        from mambasdk_graph.training import GraphTask, Targets, split_graphs, split_nodes

        train, held_out = read_graphs(args.data), read_graphs(args.test) if args.test else []
        if not train:
            raise InvalidArgumentError("no graphs", where="--data")
        level = args.level or _level(train)
        targets = Targets.of([*train, *held_out], level)
        if not held_out and level == "graph":
            train, held_out = split_graphs(train, args.held_out, args.seed)
        elif not held_out:
            train = [split_nodes(g, args.held_out, args.seed, targets) if g.split is None else g for g in train]
        model = _model(args, train[0], level, targets)
        labels = args.labels.split(",") if args.labels else []
        if labels and len(labels) != targets.count:
            raise InvalidArgumentError("bad --labels", expected=f"{targets.count} names", got=len(labels))
        task = GraphTask(
            model,
            [graph.to(args.device) for graph in train],
            [graph.to(args.device) for graph in held_out],
            level=level,
            batch=options.batch,
            seed=options.seed,
            class_weights=args.class_weights,
            resample=args.resample,
        )
        metric = _METRICS[targets.kind]
        evaluated = bool(held_out) or any(graph.split is not None for graph in train)
        return TaskRun(
            model,
            task,
            head_options={"activation": _ACTIVATIONS[targets.kind], **({"labels": labels} if labels else {})},
            engine=args.engine,
            curve={
                "title": f"{Path(args.model).name} on {Path(args.data[0]).name}",
                "metric": metric if evaluated else None,
            },
            report=lambda trained: {
                "head": model.package_head,
                "targets": {"level": level, "kind": targets.kind, "count": targets.count},
                task.unit: trained.result.units,
            },
            held_out=lambda trained: (
                ", ".join(f"{name} {value:.4f}" for name, value in trained.metrics.items()) or "nothing"
            ),
        )

    def add_evaluate_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Which nodes."""
        parser.add_argument(
            "--split",
            choices=("train", "validation", "test", "all"),
            help="nodes of graphs with a split (default: test, or validation where there is no test)",
        )

    def evaluate(self, args: argparse.Namespace) -> Evaluation:
        """The metrics that fit the targets of the graphs in `args.data`."""
        from mambasdk_graph.evaluation import evaluate

        return evaluate(args)

    def draw(self, file: Path, result: Mapping[str, Any], out: Path, *, package: Path) -> None:
        """The graph, its nodes coloured by their labels, or the graph's best labels beside it."""
        from mambasdk_graph.drawing import draw_result

        draw_result(file, result, out)


def _level(graphs: list[Graph]) -> str:
    """Nodes where y has a row for each of them in every graph, and not one for the graph as well."""
    rows = [(len(graph.y) if graph.y is not None and graph.y.ndim else 1, graph) for graph in graphs]
    of_nodes = all(count == graph.num_nodes for count, graph in rows)
    of_graphs = all(count == 1 for count, _ in rows)
    return "node" if of_nodes and not of_graphs else "graph"


def _model(args: argparse.Namespace, example: Graph, level: str, targets: Targets) -> GraphModel:
    """A new model of the data's sizes, or the model of a package."""
    model: Any = Start.of(args).model
    if model is not None:
        found = f"{model.config.dim_out} outputs of each {model.config.head}"
        refuse_other_targets(args, f"{targets.count} outputs of each {level}", found)
        return model  # type: ignore[no-any-return]
    settings: dict[str, Any] = {"head": level, "dim_out": targets.count}
    if example.x.is_floating_point() or example.x.shape[1] != 9:
        settings.update(dim_in=example.x.shape[1], node_encoder="linear")
    if example.edge_attr is None:
        settings["edge_encoder"] = "dummy"
    elif example.edge_attr.is_floating_point() or example.edge_attr.shape[1] != 3:
        settings.update(edge_dim=example.edge_attr.shape[1], edge_encoder="linear")
    made: Any = start_model(args, settings)
    return made  # type: ignore[no-any-return]

"""The heads `graph_classification` and `node_classification`: training from files, and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import (
    add_training_arguments,
    check_output,
    options_from_arguments,
    run_from_arguments,
    write_curve,
)

if TYPE_CHECKING:
    from mambasdk_graph.families.model import GraphModel
    from mambasdk_graph.graph import Graph
    from mambasdk_graph.training import Targets

_METRICS = {"classes": "accuracy", "labels": "average_precision", "values": "mean_absolute_error"}
_ACTIVATIONS = {"classes": "softmax", "labels": "sigmoid", "values": "none"}


class GraphHead:
    """Labels of graphs or of nodes."""

    def add_train_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Data, what is held out, length of the run, optimiser, checkpoints."""
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
        add_training_arguments(parser, batch=16, lr=1e-3, weight_decay=0.01)

    def train(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Train and save a package."""
        from mambasdk.package import save_package
        from mambasdk.training import Trainer
        from mambasdk_graph.readers import read_graphs
        from mambasdk_graph.training import GraphTask, Targets, split_graphs, split_nodes

        out = check_output(args)
        options = options_from_arguments(args)
        train, held_out = read_graphs(args.data), read_graphs(args.test) if args.test else []
        if not train:
            raise InvalidArgumentError("no graphs", where="--data")
        level = args.level or _level(train)
        targets = Targets.of([*train, *held_out], level)
        if not held_out and level == "graph":
            train, held_out = split_graphs(train, args.held_out, args.seed)
        elif not held_out:
            train = [split_nodes(g, args.held_out, args.seed) if g.split is None else g for g in train]
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
        result = run_from_arguments(Trainer(model, task, options), args)
        chosen: dict[str, Any] = {"activation": _ACTIVATIONS[targets.kind], **({"labels": labels} if labels else {})}
        manifest = save_package(model, out, head_options=chosen, engine=args.engine, overwrite=args.overwrite)
        metric = _METRICS[targets.kind]
        if args.curve:
            write_curve(
                args.curve,
                result,
                title=f"{manifest.family} on {Path(args.data[0]).name}",
                unit=task.unit,
                metric=metric,
            )
        report = {
            "package": str(out),
            "family": manifest.family,
            "head": manifest.head,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "targets": {"level": level, "kind": targets.kind, "count": targets.count},
            "steps": result.steps,
            task.unit: result.units,
            "loss": result.losses[-1] if result.losses else None,
            "held_out": result.metrics,
        }
        if not args.json:
            print(f"{out}: {report['parameters']:,} parameters, {result.steps} steps, {result.units:,} {task.unit}")
            shown = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
            print(f"held out: {shown or 'nothing'}")
        return report

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
    import torch

    from mambasdk.cli.arguments import is_package
    from mambasdk.models import create_model
    from mambasdk.package import load

    model: Any
    if is_package(args.model):
        if args.overrides:
            raise InvalidArgumentError(
                "--set has no effect on a package", where="train", way_out="give a family to start a new model"
            )
        model = load(args.model, device=args.device, dtype=torch.float32)
        head, outputs = model.config.head, model.config.dim_out
        if (head, outputs) != (level, targets.count):
            raise InvalidArgumentError(
                "the package learnt something else",
                where=args.model,
                expected=f"{targets.count} outputs of each {level}",
                got=f"{outputs} of each {head}",
            )
        return model  # type: ignore[no-any-return]
    torch.manual_seed(args.seed)
    settings: dict[str, Any] = {"head": level, "dim_out": targets.count}
    if example.x.is_floating_point() or example.x.shape[1] != 9:
        settings.update(dim_in=example.x.shape[1], node_encoder="linear")
    if example.edge_attr is None:
        settings["edge_encoder"] = "dummy"
    elif example.edge_attr.is_floating_point() or example.edge_attr.shape[1] != 3:
        settings.update(edge_dim=example.edge_attr.shape[1], edge_encoder="linear")
    model = create_model(args.model, device=args.device, **{**settings, **args.overrides})
    return model  # type: ignore[no-any-return]

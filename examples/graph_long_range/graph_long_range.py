"""Two graph tasks on the CPU in three minutes: a colour carried half-way round a ring, and Zachary's karate club.

    python graph_long_range.py [--out FOLDER] [--only ring|karate] [--seed 0]

Needs mambasdk-graph with torch, matplotlib and networkx. Prints a table, writes the pictures ring.png and karate.png
and the numbers as results.json. See README.md for what to expect.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import torch
from baselines import GatedGCNStack, train_gcn

import mambasdk
from mambasdk.training import Trainer, TrainingOptions
from mambasdk_graph.drawing import draw_graph
from mambasdk_graph.graph import Graph
from mambasdk_graph.processors import GraphProcessor
from mambasdk_graph.training import GraphTask

COLOURS, LENGTH = 5, 20
SMALL = {"edge_encoder": "dummy", "head": "node", "d_model": 32, "d_state": 8}
GMN = {**SMALL, "walk_length": 2, "walks": 1, "repeats": 1, "expand": 1}
KARATE = {**GMN, "d_model": 24, "walk_length": 3, "walks": 4, "dropout": 0.3}
RING_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "GMN, both directions": ("gmn", GMN),
    "GMN, one direction": ("gmn", {**GMN, "bidirectional": False}),
    "Graph-Mamba, order by degree": ("graph_mamba", {**SMALL, "pe_width": 0, "layers_post_mp": 1, "order": "degree"}),
    "Graph-Mamba, random ties": ("graph_mamba", {**SMALL, "pe_width": 0, "layers_post_mp": 1}),
    "4 layers of GatedGCN": ("", {}),
}


def rings(count: int, seed: int) -> list[Graph]:
    """Rings of LENGTH nodes with random numbers: one node has a colour, the opposite one is asked which."""
    random = np.random.default_rng(seed)
    graphs = []
    for _ in range(count):
        around = random.permutation(LENGTH)
        colour = int(random.integers(COLOURS))
        x = np.zeros((LENGTH, COLOURS + 1), np.float32)
        x[around[0], colour] = 1
        x[around[LENGTH // 2], COLOURS] = 1
        y = np.full(LENGTH, -1)
        y[around[LENGTH // 2]] = colour
        following = np.roll(around, -1)
        ends = np.stack((np.concatenate((around, following)), np.concatenate((following, around))))
        graphs.append(Graph(torch.from_numpy(x), torch.from_numpy(ends), y=torch.from_numpy(y)))
    return graphs


def ring_transfer(seed: int, steps: int) -> dict[str, dict[str, float]]:
    """Test accuracy and seconds of each model, all trained alike."""
    train, test = rings(800, 2 * seed), rings(400, 2 * seed + 1)
    results = {}
    for name, (family, settings) in RING_MODELS.items():
        torch.manual_seed(seed)
        start = time.perf_counter()
        model: Any = GatedGCNStack(COLOURS + 1, 32, COLOURS)
        if family:
            model = mambasdk.create_model(family, dim_in=COLOURS + 1, dim_out=COLOURS, **settings)
        task = GraphTask(model, train, test, level="node", batch=32, seed=seed)
        trainer = Trainer(model, task, TrainingOptions(steps=steps, batch=32, lr=3e-3, seed=seed))
        trainer.run()
        results[name] = {"accuracy": trainer.evaluate()["accuracy"], "seconds": time.perf_counter() - start}
        print(f"  {name:<30} {100 * results[name]['accuracy']:5.1f} %  {results[name]['seconds']:5.1f} s", flush=True)
    return results


def karate_club(seed: int) -> Graph:
    """The club with eight known members of each side. A member's features are its places in the two slowest
    eigenvectors of the Laplacian, scaled to a mean square of 1.
    """
    structure = networkx.karate_club_graph()
    y = np.array([int(structure.nodes[node]["club"] != "Mr. Hi") for node in structure])
    ties = np.array(structure.edges).T
    random = np.random.default_rng(seed)
    split = np.full(len(y), 2)
    for side in (0, 1):
        split[random.choice(np.flatnonzero(y == side), 8, replace=False)] = 0
    ends = np.concatenate((ties, ties[::-1]), 1)
    vectors = GraphProcessor(laplacian=3).encode(ends, np.array([0, len(y)]))["eigvecs"][:, 1:]
    x = torch.from_numpy(vectors * len(y) ** 0.5)
    return Graph(x, torch.from_numpy(ends), y=torch.from_numpy(y), split=torch.from_numpy(split))


def karate(seed: int, repeats: int, steps: int) -> tuple[dict[str, dict[str, float]], Graph, torch.Tensor]:
    """Mean test accuracy over `repeats` choices of the known members; the last graph and GMN's labels of it."""
    found: dict[str, list[float]] = {"GMN": [], "GCN, one-hot members": [], "GCN, features of GMN": []}
    start = time.perf_counter()
    for repeat in range(repeats):
        graph = karate_club(seed + repeat)
        asked = graph.split == 2
        torch.manual_seed(seed + repeat)
        model: Any = mambasdk.create_model("gmn", dim_in=2, dim_out=2, **KARATE)
        task = GraphTask(model, [graph], level="node", batch=1)
        options = TrainingOptions(steps=steps, batch=1, lr=5e-3, weight_decay=0.01, seed=seed)
        Trainer(model, task, options).run(progress=False)
        with torch.no_grad():
            labels = model(graph).logits.argmax(1)
        said = {
            "GMN": labels,
            "GCN, one-hot members": train_gcn(graph.replace(x=torch.eye(graph.num_nodes)), 2, seed=repeat),
            "GCN, features of GMN": train_gcn(graph, 2, seed=repeat),
        }
        for name, sides in said.items():
            found[name].append(float((sides == graph.y)[asked].float().mean()))
    seconds = time.perf_counter() - start
    results = {
        name: {"accuracy": float(np.mean(values)), "deviation": float(np.std(values))} for name, values in found.items()
    }
    for name, value in results.items():
        mean, deviation = 100 * value["accuracy"], 100 * value["deviation"]
        print(f"  {name:<30} {mean:5.1f} %  +- {deviation:.1f} over {repeats} choices")
    print(f"  ({seconds:.0f} s)")
    return results, graph, labels


def plot_ring(results: dict[str, dict[str, float]], path: Path) -> None:
    """Bars of test accuracy, with chance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = list(results)[::-1]
    values = [100 * results[name]["accuracy"] for name in names]
    bars = axes.barh(names, values, color=["#0072b2" if "both" in name else "#9ecae1" for name in names])
    axes.bar_label(bars, fmt="%.1f", padding=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.axvline(100 / COLOURS, color="#d55e00", linestyle="--", label=f"chance, {100 // COLOURS} %")
    axes.set_xlim(0, 112)
    axes.set_xlabel("test accuracy, %")
    axes.set_title(f"Colour of the opposite node of a ring of {LENGTH}")
    axes.legend(loc="lower right", frameon=True)
    figure.savefig(path)


def main() -> None:
    """Both tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("graph_long_range"), help="where results go")
    parser.add_argument("--only", choices=("ring", "karate"), help="leave the other task out")
    parser.add_argument("--steps", type=int, default=300, help="training steps of the ring models (default: 300)")
    parser.add_argument("--repeats", type=int, default=10, help="choices of known members (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # graphs this small gain nothing from a second thread
    args.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    if args.only != "karate":
        print(f"Ring transfer: {LENGTH} nodes, {COLOURS} colours, test accuracy")
        report["ring"] = ring_transfer(args.seed, args.steps)
        plot_ring(report["ring"], args.out / "ring.png")
    if args.only != "ring":
        print("Zachary's karate club: 16 members known, 18 asked, test accuracy")
        report["karate"], graph, labels = karate(args.seed, args.repeats, steps=60)
        assert graph.y is not None
        marks = ["#333333" if node == 0 else "white" for node in graph.split.tolist()]  # type: ignore[union-attr]
        marks = [("#d62728" if a != b else mark) for mark, a, b in zip(marks, labels, graph.y, strict=True)]
        draw_graph(
            args.out / "karate.png",
            graph.edge_index.numpy(),
            labels.tolist(),
            names={0: "Mr. Hi", 1: "Officer"},
            title="Karate club, GMN's labels; dark rim: known in training, red rim: wrong",
            marks=marks,
        )
    (args.out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"pictures and results.json: {args.out}")


if __name__ == "__main__":
    main()

"""Graph models: attention against Mamba in a GPS layer, and GMN's time against its number of tokens.

    python benchmarks/families/graph.py --json benchmarks/results/graph.json --plot graph.png [--quick]

1. One GPS layer on a random graph of n nodes, its global branch dense softmax attention or Mamba, of one width and with
   untrained weights, taken in turn: time (median), and memory above weights and input (the allocator's high water, from
   torch's profiler). Passes if Mamba's slope in time is at most 1.1 and attention's at least 1.7 from 800 nodes on, and
   if attention needs at least 10 times the memory at 1600 nodes (arXiv 2402.00789).
2. GMN's time per node against M s (m + 1), walks in its tokens, one factor at a time. Passes if the slope over s is
   0.9 to 1.1 (D.2).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import mambasdk
from mambasdk import runtime
from mambasdk_graph.families.graph_mamba import GPSLayer, NodeOrder
from mambasdk_graph.graph import Graph

CLOCK = time.perf_counter
WIDTH = 96  # of the LRGB configurations
HEADS = 4
DEGREE = 6
# (m, M, s). More repeats are more tokens, each of the same work. More walks make larger tokens, which overlap; longer
# walks make more tokens and larger ones. So only the first is a line through the origin.
SWEEPS = {
    "s": [(2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 2, 8)],
    "M": [(2, 1, 2), (2, 2, 2), (2, 4, 2), (2, 8, 2)],
    "m": [(1, 2, 2), (2, 2, 2), (4, 2, 2), (8, 2, 2)],
}
GOALS = {
    "mamba slope": (None, 1.1),
    "attention slope": (1.7, None),
    "memory ratio": (10.0, None),
    "gmn slope over s": (0.9, 1.1),
}


class Attention(nn.Module):
    """Softmax attention over all nodes of one graph. fused: torch's kernel, else with the matrix of weights."""

    def __init__(self, width: int, *, fused: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(x.shape[0], 3, HEADS, -1).permute(1, 2, 0, 3)  # (heads, N, D / heads) each
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]
        else:
            mixed = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v
        return self.out(mixed.transpose(0, 1).flatten(1))


class AttentionLayer(GPSLayer):
    """The same layer with attention in the global branch."""

    def __init__(self, width: int, *, fused: bool) -> None:
        super().__init__(width, d_state=16, d_conv=4, expand=1, dropout=0.0, attn_dropout=0.0)
        self.self_attn = Attention(width, fused=fused)  # type: ignore[assignment]

    def mix(self, h: Tensor, sequences: Any) -> Tensor:
        return self.self_attn(h)


def random_graph(nodes: int, seed: int = 0) -> Graph:
    """Every edge with the same chance, DEGREE on average."""
    random = np.random.default_rng(seed)
    ends = random.integers(0, nodes, (2, nodes * DEGREE // 2))
    both = torch.from_numpy(np.concatenate((ends, ends[::-1]), 1))
    return Graph(torch.zeros(nodes, 1), both)


def median_times(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Milliseconds of each, taken in turn, after one run that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = CLOCK()
            run()
            if repeat:
                times[name].append(1e3 * (CLOCK() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(run: Callable[[], Any]) -> float:
    """MB that torch's allocator has given out at most above what was there before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    now = most = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most / 1e6


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of a line through the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def measure_layers(sizes: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Time and memory of each layer at each size. Evaluation as upstream has it takes five passes of Mamba."""
    torch.manual_seed(0)
    layers = {
        "mamba": GPSLayer(WIDTH, d_state=16, d_conv=4, expand=1, dropout=0.0, attn_dropout=0.0).eval(),
        "attention": AttentionLayer(WIDTH, fused=False).eval(),
        "fused attention": AttentionLayer(WIDTH, fused=True).eval(),
    }
    order = NodeOrder("degree_random", 0)
    rows = []
    for nodes in sizes:
        graph = random_graph(nodes)
        h, e = torch.randn(nodes, WIDTH), torch.randn(graph.num_edges, WIDTH)
        noise = torch.rand(5, nodes)

        def run(
            layer: GPSLayer, passes: int, graph: Graph = graph, h: Tensor = h, e: Tensor = e, u: Tensor = noise
        ) -> Any:
            with torch.no_grad():
                made = [order.sequences(graph, u[i], None) for i in range(passes)]
                return layer(h, e, graph, made)

        runs: dict[str, Callable[[], Any]] = {
            name: lambda layer=layer, name=name: run(layer, int(name == "mamba")) for name, layer in layers.items()
        }
        runs["mamba, 5 passes"] = lambda: run(layers["mamba"], 5)
        for found in (run(layers["attention"], 0)[0] - _with_weights(layers, graph, h, e),):
            assert float(found.abs().max()) < 1e-3, "the two forms of attention differ"
        milliseconds = median_times(runs, repeats)
        for name, once in runs.items():
            rows.append({"nodes": nodes, "layer": name, "ms": milliseconds[name], "MB": peak_memory(once)})
            print(f"  {nodes:>5} nodes  {name:<16} {rows[-1]['ms']:9.2f} ms  {rows[-1]['MB']:9.2f} MB", flush=True)
    return rows


def _with_weights(layers: dict[str, Any], graph: Graph, h: Tensor, e: Tensor) -> Tensor:
    """The fused layer's result with the other's weights."""
    layers["fused attention"].load_state_dict(layers["attention"].state_dict())
    with torch.no_grad():
        return layers["fused attention"](h, e, graph, [])[0]


def measure_gmn(nodes: int, repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Microseconds per node of GMN without its node-level parts, one factor of M s (m + 1) at a time."""
    graph = random_graph(nodes)
    rows = []
    for factor, settings in SWEEPS.items():
        for m, walks, s in settings[:3] if quick else settings:
            torch.manual_seed(0)
            local = {
                "edge_encoder": "dummy",
                "head": "node",
                "node_layers": 0,
                "mpnn": False,
                "d_model": 64,
                "dim_in": 1,
            }
            model: Any = mambasdk.create_model("gmn", walk_length=m, walks=walks, repeats=s, **local).eval()
            prepared = model.prepare(graph)

            def forward(model: Any = model, prepared: Graph = prepared) -> None:
                with torch.no_grad():
                    model(prepared)

            times = median_times({"tokens": lambda model=model: model.prepare(graph), "model": forward}, repeats)
            us = {name: 1e3 * value / nodes for name, value in times.items()}
            rows.append({"factor": factor, "m": m, "M": walks, "s": s, "walks": walks * s * (m + 1), "us": us})
            print(
                f"  {factor} varies: m {m} M {walks} s {s}: {rows[-1]['walks']:>3} walks, microseconds per node: "
                f"{us['tokens']:7.2f} tokens, {us['model']:8.2f} model",
                flush=True,
            )
    return rows


def check(layers: Sequence[dict[str, Any]], gmn: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures that must be reached, and whether they are."""
    found: dict[str, float] = {}

    def of(name: str, least: int = 0) -> tuple[list[float], list[float], list[float]]:
        rows = [row for row in layers if row["layer"] == name and row["nodes"] >= least]
        return [row["nodes"] for row in rows], [row["ms"] for row in rows], [row["MB"] for row in rows]

    if layers:
        found["mamba slope"] = slope(*of("mamba", 800)[:2])
        found["attention slope"] = slope(*of("attention", 800)[:2])
        at = of("mamba")[0].index(1600)
        found["memory ratio"] = of("attention")[2][at] / of("mamba")[2][at]
    for factor in SWEEPS:
        rows = [row for row in gmn if row["factor"] == factor]
        found[f"gmn slope over {factor}"] = slope(
            [row["walks"] for row in rows], [sum(row["us"].values()) for row in rows]
        )
    checks = {}
    for name, value in found.items():
        least, most = GOALS.get(name, (None, None))
        if least is None and most is None:
            print(f"        {name}: {value:.2f}")
            checks[name] = {"value": value, "goal": None, "passed": True}
            continue
        passed = (least is None or value >= least) and (most is None or value <= most)
        goal = " to ".join(f"{bound:g}" for bound in (least, most) if bound is not None)
        goal = goal if least is not None and most is not None else f"{'at least' if most is None else 'at most'} {goal}"
        checks[name] = {"value": value, "goal": goal, "passed": passed}
        print(f"  {'pass' if passed else 'MISS'}  {name}: {value:.2f}, goal {goal}")
    return checks


def plot(result: dict[str, Any], path: Path) -> None:
    """Time, memory, and GMN's time per node."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    colours = {"mamba": "#0072b2", "mamba, 5 passes": "#56b4e9", "attention": "#d55e00", "fused attention": "#e69f00"}
    for place, unit, title in ((axes[0], "ms", "time"), (axes[1], "MB", "memory above weights and input")):
        for name, colour in colours.items():
            rows = [row for row in result["layers"] if row["layer"] == name]
            place.loglog([row["nodes"] for row in rows], [row[unit] for row in rows], "o-", color=colour, label=name)
        sizes = sorted({row["nodes"] for row in result["layers"]})
        place.set_xticks(sizes, [str(size) for size in sizes])
        place.minorticks_off()
        place.set_xlabel("nodes")
        place.set_ylabel(unit)
        place.set_title(f"One GPS layer, width {WIDTH}: {title}", fontsize=10)
        place.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    for factor, colour in (("s", "#0072b2"), ("M", "#009e73"), ("m", "#cc79a7")):
        rows = [row for row in result["gmn"] if row["factor"] == factor]
        label = {"s": "s, repeats", "M": "M, walks in a token", "m": "m, longest walk"}[factor]
        times = [sum(row["us"].values()) for row in rows]
        axes[2].loglog([row["walks"] for row in rows], times, "o-", color=colour, label=f"varying {label}")
    axes[2].set_xlabel("M s (m + 1), walks per node")
    axes[2].set_ylabel("microseconds per node")
    axes[2].set_title("GMN, local part, width 64", fontsize=10)
    axes[2].grid(alpha=0.3)
    axes[2].legend(fontsize=8)
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--plot", type=Path, help="draw them")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats; goals are shown, not enforced")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="of one thread, where the machine is not quiet")
    args = parser.parse_args(argv)
    if args.cpu_time:
        args.threads = 1
        globals()["CLOCK"] = time.process_time
    torch.set_num_threads(args.threads)
    runtime.set_num_threads(args.threads)
    print(f"{args.threads} threads, torch {torch.__version__}, mambasdk {runtime.version()}")
    sizes = (400, 800, 1600) if args.quick else (200, 400, 800, 1600, 3200)
    repeats = 3 if args.quick else 11
    result: dict[str, Any] = {
        "clock": CLOCK.__name__,
        "threads": args.threads,
        "torch": torch.__version__,
        "mambasdk": runtime.version(),
    }
    result["layers"] = measure_layers(sizes, repeats)
    result["gmn"] = measure_gmn(500 if args.quick else 1000, repeats, args.quick)
    result["checks"] = check(result["layers"], result["gmn"])
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.plot:
        plot(result, args.plot)
    missed = [name for name, entry in result["checks"].items() if not entry["passed"]]
    return 1 if missed and not args.quick else 0


if __name__ == "__main__":
    sys.exit(main())

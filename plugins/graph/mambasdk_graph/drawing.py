"""Pictures of graphs: a spring layout and nodes coloured by their labels. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import require_module
from mambasdk_graph.processors import GraphProcessor

Array = npt.NDArray[np.float64]
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#7f7f7f")  # Okabe and Ito
_NUMBERED = 60  # nodes up to which their numbers are written
_LARGEST_LAYOUT = 1500  # nodes up to which the layout is worked out; it takes n^2 memory


def spring_layout(edge_index: npt.NDArray[np.int64], nodes: int, *, steps: int = 150, seed: int = 0) -> Array:
    """(nodes, 2) places in [-1, 1]: neighbours pull, all push (Fruchterman and Reingold, 1991). The same every time.

    Above 1500 nodes they lie on a circle.
    """
    angle = 2 * np.pi * np.arange(nodes) / max(nodes, 1)
    places = np.stack((np.cos(angle), np.sin(angle)), 1)
    if nodes < 3 or nodes > _LARGEST_LAYOUT:
        return places if nodes > 1 else np.zeros((nodes, 2))
    chance = np.random.default_rng(seed)
    places = places + chance.normal(scale=0.05, size=places.shape)
    linked = np.zeros((nodes, nodes))
    linked[edge_index[0], edge_index[1]] = linked[edge_index[1], edge_index[0]] = 1
    np.fill_diagonal(linked, 0)
    ideal = 1.6 / np.sqrt(nodes)
    for step in range(steps):
        apart = places[:, None] - places[None]  # (n, n, 2)
        distance = np.maximum(np.sqrt((apart**2).sum(-1)), 1e-3)
        force = ideal**2 / distance**2 - linked * distance / ideal
        move = (apart * force[..., None]).sum(1) - places * 0.05  # a little towards the middle: parts stay in sight
        length = np.maximum(np.sqrt((move**2).sum(-1, keepdims=True)), 1e-9)
        places = places + move / length * np.minimum(length, 0.2 * (1 - step / steps))
    places = places - places.mean(0)
    return np.asarray(places / max(np.abs(places).max(), 1e-9), np.float64)


def draw_graph(
    path: str | os.PathLike[str],
    edge_index: npt.NDArray[np.int64],
    colours: Sequence[int],
    *,
    names: Mapping[int, str] | None = None,
    title: str = "",
    note: str = "",
    marks: Sequence[str] | None = None,
) -> None:
    """A PNG of a graph. colours: the class of each node. names: of classes, for the legend. note: text on the right.

    marks: an edge colour of each node, for example to show which ones are wrong.
    """
    require_module("matplotlib", "drawing a graph", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    nodes = len(colours)
    places = spring_layout(edge_index, nodes)
    figure = Figure(figsize=(9 if note or names else 7, 6.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.margins(0.08)
    pairs = np.unique(np.sort(edge_index, 0), axis=1)
    if pairs.shape[1]:
        axes.add_collection(LineCollection(list(places[pairs.T]), colors="#b0b0b0", linewidths=0.9, zorder=1))
    size = float(np.clip(9000 / max(nodes, 1), 12, 320))
    seen = sorted(set(colours))
    for value in seen:
        index = np.flatnonzero(np.asarray(colours) == value)
        edge: Any = [marks[int(i)] for i in index] if marks is not None else "white"
        axes.scatter(
            places[index, 0],
            places[index, 1],
            s=size,
            color=_COLOURS[value % len(_COLOURS)],
            edgecolors=edge,
            linewidths=2.0 if marks is not None else 0.8,
            zorder=2,
            label=f"{(names or {}).get(value, value)} ({len(index)})",
        )
    if nodes <= _NUMBERED:
        for node, place in enumerate(places):
            dark = _COLOURS[colours[node] % len(_COLOURS)] not in ("#f0e442", "#e69f00", "#56b4e9")
            axes.annotate(
                str(node), place, ha="center", va="center", fontsize=8, color="white" if dark else "black", zorder=3
            )
    if nodes == 0:
        axes.text(0.5, 0.5, "no nodes", ha="center", va="center", transform=axes.transAxes)
    if names:
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, title="class (nodes)")
        handles: Any = legend.legend_handles
        for handle in handles:
            handle.set_sizes([90])
            handle.set_edgecolor("white")
    if note:
        axes.text(1.03, 0.5 if names else 1.0, note, transform=axes.transAxes, va="top", family="monospace", fontsize=9)
    figure.savefig(path)


def draw_result(file: Path, result: Mapping[str, Any], out: Path) -> None:
    """What a package said about a graph's file: labels of its nodes, or of the whole graph."""
    made = GraphProcessor()(file)
    nodes, edge_index = made["x"].shape[0], made["edge_index"]
    if "nodes" in result:
        found = result["nodes"]
        names = {int(node["index"]): str(node["label"]) for node in found}
        draw_graph(
            out, edge_index, [int(node["index"]) for node in found], names=names, title=f"{file.name}: node labels"
        )
        return
    labels = result.get("labels", [])
    width = max((len(str(label["label"])) for label in labels), default=0)
    rows = [f"{label['label']!s:<{width}}  {_score(label['score'])}" for label in labels]
    title = f"{file.name}: {labels[0]['label']} ({_score(labels[0]['score'])})" if labels else file.name
    draw_graph(out, edge_index, [0] * nodes, title=title, note="\n".join(["label  score", *rows]))


def _score(value: Any) -> str:
    return "none" if value is None else f"{value:.3f}"

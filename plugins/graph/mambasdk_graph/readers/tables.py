"""Graphs from CSV: a folder of one graph, and OGB's raw folders of many."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph.graph import Graph
from mambasdk_graph.readers.arrays import from_arrays

Array = npt.NDArray[Any]


def read_csv(folder: str | os.PathLike[str], *, directed: bool = False) -> Graph:
    """One graph: edges.csv with columns source, target and features; nodes.csv with features and, if it likes, y.

    Both begin with a line of names. Nodes are numbered from 0 in the order of nodes.csv; without it they are those of
    the edges, with feature 1. directed: else each edge is listed once and becomes two.
    """
    place = Path(folder)
    names, rows = _named_table(place / "edges.csv")
    if names[:2] != ["source", "target"]:
        raise InvalidArgumentError("bad columns", where=str(place / "edges.csv"), expected="source,target,…", got=names)
    ends, attr = rows[:, :2].T, rows[:, 2:]
    if (ends != ends.round()).any():
        raise InvalidArgumentError("nodes are no whole numbers", where=str(place / "edges.csv"))
    arrays: dict[str, Any] = {"edge_index": ends.astype(np.int64)}
    if attr.shape[1]:
        arrays["edge_attr"] = attr.astype(np.float32)
    if not directed:
        arrays["edge_index"] = np.concatenate((arrays["edge_index"], arrays["edge_index"][::-1]), 1)
        if attr.shape[1]:
            arrays["edge_attr"] = np.concatenate((arrays["edge_attr"],) * 2)
    if (place / "nodes.csv").is_file():
        names, rows = _named_table(place / "nodes.csv")
        if "y" in names:
            arrays["y"] = _targets(rows[:, names.index("y")])
        features = [index for index, name in enumerate(names) if name != "y"]
        arrays["x"] = rows[:, features].astype(np.float32) if features else np.ones((len(rows), 1), np.float32)
    return from_arrays(arrays, str(place))


def read_ogb(folder: str | os.PathLike[str], *, add_inverse: bool = True) -> list[Graph]:
    """Graphs of OGB's raw folder: num-node-list, num-edge-list, edge, and where there are any node-feat, edge-feat,
    graph-label or node-label, each .csv or .csv.gz.

    add_inverse: each edge is listed once and becomes two, as for OGB's undirected data sets. Whole features become
    int64 categories. Raises InvalidArgumentError with the file.
    """
    place = Path(folder)
    nodes = _counts(place, "num-node-list")
    edges = _counts(place, "num-edge-list")
    if len(nodes) != len(edges):
        raise InvalidArgumentError(
            f"{len(nodes)} graphs by nodes, {len(edges)} by edges", where=str(place), way_out="download it again"
        )
    ends = _table(place, "edge", sum(edges), required=True)
    assert ends is not None
    x, attr = _table(place, "node-feat", sum(nodes)), _table(place, "edge-feat", sum(edges))
    of_nodes, of_graphs = _table(place, "node-label", sum(nodes)), _table(place, "graph-label", len(nodes))
    graphs = []
    node, edge = 0, 0
    for index, (n, e) in enumerate(zip(nodes, edges, strict=True)):
        index_pairs = torch.from_numpy(ends[edge : edge + e].T.astype(np.int64)).reshape(2, e)
        features = _features(x[node : node + n]) if x is not None else torch.ones(n, 1)
        attributes = _features(attr[edge : edge + e]) if attr is not None else None
        if add_inverse:
            index_pairs = torch.cat((index_pairs, index_pairs.flip(0)), 1)
            attributes = None if attributes is None else torch.cat((attributes, attributes))
        y = None
        if of_nodes is not None:
            y = torch.from_numpy(_targets(of_nodes[node : node + n]))
        elif of_graphs is not None:
            y = torch.from_numpy(_targets(of_graphs[index : index + 1]))
        try:
            graphs.append(Graph(features, index_pairs.contiguous(), attributes, y=y).validate())
        except InvalidArgumentError as error:
            raise InvalidArgumentError(str(error), where=f"{place}: graph {index}") from error
        node, edge = node + n, edge + e
    return graphs


def _features(rows: Array) -> Tensor:
    return torch.from_numpy(rows.astype(np.int64 if (rows == rows.round()).all() else np.float32))


def _targets(values: Array) -> Array:
    """int64 classes of a vector of whole numbers from 0, -1 where there is none; else float32 with NaN there."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    known = values[~np.isnan(values)]
    if values.ndim == 1 and known.size and (known >= 0).all() and (known == known.round()).all():
        return np.where(np.isnan(values), -1, values).astype(np.int64)
    return values.astype(np.float32)


def _text(path: Path) -> str:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return file.read()
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise InvalidArgumentError(f"cannot be read: {error}", where=str(path)) from error


def _numbers(text: str, where: str) -> Array:
    """(rows, columns) float64; an empty field is NaN."""
    if not text.strip():
        return np.zeros((0, 0))
    try:
        return np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError:  # it has empty fields, or is no table; the one below is slower and takes the former
        pass
    try:
        table = np.genfromtxt(io.StringIO(text), delimiter=",", dtype=np.float64, ndmin=2)
        return np.asarray(table)
    except ValueError as error:
        raise InvalidArgumentError(f"is no table of numbers: {error}", where=where) from error


def _named_table(path: Path) -> tuple[list[str], Array]:
    first, _, rest = _text(path).partition("\n")
    names = [name.strip() for name in first.split(",")]
    rows = _numbers(rest, str(path))
    if rows.size == 0:
        return names, np.zeros((0, len(names)))
    if rows.shape[1] != len(names):
        raise InvalidArgumentError("bad rows", where=str(path), expected=f"{len(names)} columns", got=rows.shape[1])
    features = [index for index, name in enumerate(names) if name != "y"]
    if np.isnan(rows[:, features]).any():
        raise InvalidArgumentError("some fields are no numbers", where=str(path))
    return names, rows


def _file(folder: Path, name: str) -> Path | None:
    return next((path for end in (".csv.gz", ".csv") if (path := folder / (name + end)).is_file()), None)


def _table(folder: Path, name: str, rows: int, *, required: bool = False) -> Array | None:
    path = _file(folder, name)
    if path is None:
        if required:
            raise InvalidArgumentError(f"no {name}.csv.gz", where=str(folder))
        return None
    table = _numbers(_text(path), str(path))
    if table.size == 0:
        table = np.zeros((0, 2 if name == "edge" else 1))
    if len(table) != rows:
        raise InvalidArgumentError("bad rows", where=str(path), expected=rows, got=len(table))
    return table


def _counts(folder: Path, name: str) -> list[int]:
    path = _file(folder, name)
    if path is None:
        raise InvalidArgumentError(f"no {name}.csv.gz", where=str(folder))
    counts = _numbers(_text(path), str(path))
    if (
        counts.ndim != 2
        or (counts.size and counts.shape[1] != 1)
        or (counts < 0).any()
        or (counts != counts.round()).any()
    ):
        raise InvalidArgumentError("bad counts", where=str(path), expected="a whole number on each line")
    return [int(count) for count in counts.ravel()]

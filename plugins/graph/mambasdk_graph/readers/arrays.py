"""Graphs from JSON (the format that packages read, docs/graph.md) and from NumPy archives."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph.graph import Graph
from mambasdk_graph.processors import GraphProcessor

_SPLITS = {"train": 0, "validation": 1, "test": 2}


def read_json(path: str | os.PathLike[str]) -> Graph:
    """One graph, read as packages read it; without "x" each node has one feature, 1. "y" and "split" are for training.

    "y": a label or a list of targets of the graph, or one of each node, null where it is not known.
    "split": {"train": [nodes…], "validation": […], "test": […]}. Raises InvalidArgumentError with the place.
    """
    return _parsed(Path(path).read_bytes(), str(path))


def read_jsonl(path: str | os.PathLike[str]) -> list[Graph]:
    """A graph on each line that is not empty."""
    lines = Path(path).read_bytes().splitlines()
    return [_parsed(line, f"{path}: line {i + 1}") for i, line in enumerate(lines) if line.strip()]


def _parsed(data: bytes, where: str) -> Graph:
    try:
        made = GraphProcessor()(data)
        root = json.loads(data)
    except (ValueError, RuntimeError) as error:
        raise InvalidArgumentError(str(error), where=where) from error
    x = made["x"] if made["x"].shape[1] else np.ones((made["x"].shape[0], 1), np.float32)
    graph = Graph(
        torch.from_numpy(x),
        torch.from_numpy(made["edge_index"]),
        torch.from_numpy(made["edge_attr"]) if made["edge_attr"].shape[1] else None,
        y=targets(root["y"], where) if root.get("y") is not None else None,
    )
    return graph.replace(split=_split(root["split"], graph.num_nodes, where)) if root.get("split") else graph


def targets(values: Any, where: str) -> Tensor:
    """Targets as they are in JSON: whole numbers become int64 with -1 for null, others float32 with NaN for null."""
    array = np.asarray(values, dtype=object)
    flat = array.ravel()
    if not all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in flat):
        raise InvalidArgumentError("bad y", where=where, expected="numbers or null, in lists of one length")
    whole = all(value is None or isinstance(value, int) for value in flat)
    missing: float = -1 if whole else float("nan")
    numbers = [missing if value is None else value for value in flat]
    return torch.tensor(numbers, dtype=torch.int64 if whole else torch.float32).reshape(array.shape)


def _split(named: Any, nodes: int, where: str) -> Tensor:
    split = torch.full((nodes,), -1)
    for name, members in named.items() if isinstance(named, dict) else [("split", None)]:
        index = np.asarray(members if members is not None else [], np.float64)
        if name not in _SPLITS or members is None or ((index < 0) | (index >= nodes) | (index != index.round())).any():
            raise InvalidArgumentError(
                f"bad split {name!r}", where=where, expected='nodes under "train", "validation" and "test"'
            )
        split[torch.from_numpy(index.astype(np.int64))] = _SPLITS[name]
    return split


def read_npz(path: str | os.PathLike[str]) -> Graph:
    """Arrays x (N, F), edge_index (2, E), and where they are there edge_attr, y, train_mask, val_mask, test_mask (N).

    Both directions of an undirected edge are listed. Without x, num_nodes says how many nodes there are. Masks with a
    column for each of several splits (N, S): the first is taken.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidArgumentError(f"cannot be read as a NumPy archive: {error}", where=str(path)) from error
    return from_arrays(arrays, str(path))


def from_arrays(arrays: dict[str, Any], where: str) -> Graph:
    """A checked graph from named arrays, as read_npz."""
    if "edge_index" not in arrays:
        raise InvalidArgumentError("no edge_index", where=where, expected="(2, E)", got=sorted(arrays))
    ends = torch.as_tensor(arrays["edge_index"]).to(torch.int64).reshape(2, -1)
    x = arrays.get("x")
    if x is None:
        count = arrays.get("num_nodes")
        nodes = int(count) if count is not None else (int(ends.max()) + 1 if ends.numel() else 0)
        x = np.ones((nodes, 1), np.float32)
    features = _rows(x)
    attr = arrays.get("edge_attr")
    y = arrays.get("y")
    graph = Graph(features, ends, None if attr is None else _rows(attr), y=None if y is None else _numbers(y))
    masks = [arrays.get(name) for name in ("train_mask", "val_mask", "test_mask")]
    if any(mask is not None for mask in masks):
        split = torch.full((graph.num_nodes,), -1)
        for number, mask in enumerate(masks):
            if mask is not None:
                chosen = torch.as_tensor(mask).bool()
                split[chosen if chosen.ndim == 1 else chosen[:, 0]] = number
        graph = graph.replace(split=split)
    try:
        return graph.validate()
    except InvalidArgumentError as error:
        raise InvalidArgumentError(str(error), where=where) from error


def _numbers(values: Any) -> Tensor:
    """Float32, or int64 for whole numbers."""
    tensor = torch.as_tensor(values)
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64)


def _rows(values: Any) -> Tensor:
    tensor = _numbers(values)
    return tensor.unsqueeze(1) if tensor.ndim == 1 else tensor

"""Graphs from JSON (the format that packages read, docs/graph.md) and from NumPy archives."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph.graph import Graph
from mambasdk_graph.processors import GraphProcessor

_LARGEST = float(np.finfo(np.float32).max)
_MAX_NODES = 100_000_000
MASKS = ("train_mask", "val_mask", "test_mask")
FIELDS = ("x", "edge_index", "edge_attr", "y", "num_nodes", *MASKS)
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
    """Targets as in JSON: whole numbers from 0 become int64 with -1 for null, others float32 with NaN for null."""
    array = np.asarray(values, dtype=object)
    flat = array.ravel()
    if not all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in flat):
        raise InvalidArgumentError("bad y", where=where, expected="numbers or null, in lists of one length")
    whole = all(value is None or (isinstance(value, int) and value >= 0) for value in flat)
    missing: float = -1 if whole else float("nan")
    numbers = [missing if value is None else value for value in flat]
    if any(value is not None and not -_LARGEST <= value <= _LARGEST for value in flat):
        raise InvalidArgumentError("y has numbers that are not finite in float32", where=where)
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
    column for each of several splits (N, S): the first is taken. Arrays of other names are refused.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidArgumentError(f"cannot be read as a NumPy archive: {error}", where=str(path)) from error
    if unknown := sorted(set(arrays) - set(FIELDS)):
        raise InvalidArgumentError(
            f"has arrays of unknown names: {', '.join(unknown[:8])}", where=str(path), expected=", ".join(FIELDS)
        )
    return from_arrays(arrays, str(path))


def from_arrays(arrays: Mapping[str, Any], where: str) -> Graph:
    """A checked graph from named arrays, as read_npz; names that are not in FIELDS are not looked at."""
    if "edge_index" not in arrays:
        raise InvalidArgumentError("no edge_index", where=where, expected="(2, E)", got=sorted(arrays))
    ends = torch.as_tensor(arrays["edge_index"])
    if ends.ndim != 2 or ends.shape[0] != 2 or ends.is_floating_point():
        raise InvalidArgumentError(
            "bad edge_index", where=where, expected="whole numbers (2, E)", got=f"{ends.dtype} {tuple(ends.shape)}"
        )
    x = arrays.get("x")
    if x is None:
        count = arrays.get("num_nodes")
        nodes = int(count) if count is not None else (int(ends.max()) + 1 if ends.numel() else 0)
        if nodes > _MAX_NODES:
            raise InvalidArgumentError(
                f"{nodes} nodes without features", where=where, expected=f"at most {_MAX_NODES}", way_out="give x"
            )
        x = np.ones((nodes, 1), np.float32)
    attr = arrays.get("edge_attr")
    y = arrays.get("y")
    graph = Graph(
        _rows(x), ends.to(torch.int64), None if attr is None else _rows(attr), y=None if y is None else _targets(y)
    )
    graph = graph.replace(split=split_of_masks(arrays, graph.num_nodes, where))
    try:
        return graph.validate()
    except InvalidArgumentError as error:
        raise InvalidArgumentError(str(error), where=where) from error


def split_of_masks(arrays: Mapping[str, Any], nodes: int, where: str) -> Tensor | None:
    """Graph.split, (N) int64, from train_mask, val_mask and test_mask, (N) or (N, S) bool; None where there is none."""
    split = None
    for number, name in enumerate(MASKS):
        mask = arrays.get(name)
        if mask is None:
            continue
        chosen = torch.as_tensor(mask)
        if chosen.ndim not in (1, 2) or chosen.shape[0] != nodes or (chosen.ndim == 2 and chosen.shape[1] == 0):
            raise InvalidArgumentError(
                f"bad {name}", where=where, expected=f"({nodes},) or ({nodes}, S)", got=tuple(chosen.shape)
            )
        if split is None:
            split = torch.full((nodes,), -1, device=chosen.device)
        split[(chosen if chosen.ndim == 1 else chosen[:, 0]).bool()] = number
    return split


def _numbers(values: Any) -> Tensor:
    """Float32, or int64 for whole numbers."""
    tensor = torch.as_tensor(values)
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64)


def _targets(values: Any) -> Tensor:
    """As `_numbers`, but float32 where whole numbers below -1 show that they are no classes (-1 means: not known)."""
    tensor = _numbers(values)
    return tensor.float() if not tensor.is_floating_point() and bool((tensor < -1).any()) else tensor


def _rows(values: Any) -> Tensor:
    tensor = _numbers(values)
    return tensor.unsqueeze(1) if tensor.ndim == 1 else tensor

"""Processed data sets of PyTorch Geometric (`processed/*.pt`), read without it and without running what they hold."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph.graph import Graph
from mambasdk_graph.readers.arrays import from_arrays

# Names of classes in such files. A stand-in takes their place: it holds attributes and does nothing.
_CLASSES = (
    "torch_geometric.data.data.Data",
    "torch_geometric.data.data.DataEdgeAttr",
    "torch_geometric.data.data.DataTensorAttr",
    "torch_geometric.data.storage.GlobalStorage",
    "torch_geometric.data.storage.BaseStorage",
    "torch_geometric.data.storage.NodeStorage",
    "torch_geometric.data.storage.EdgeStorage",
)


class _StandIn:
    """Any class of the data set's file: only its attributes are kept."""


def read_pyg(path: str | os.PathLike[str]) -> list[Graph]:
    """The graphs of a file that InMemoryDataset.save wrote, or of a single saved Data.

    Read with `weights_only=True`: a file that holds anything but tensors, plain values and Data is refused. Raises
    InvalidArgumentError.
    """
    where = str(path)
    try:
        with torch.serialization.safe_globals([(_StandIn, name) for name in _CLASSES]):
            content = torch.load(Path(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InvalidArgumentError(
            f"refused: {reason}",
            where=where,
            way_out="save it as tensors where you trust it: torch.save((data.to_dict(), slices), path)",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InvalidArgumentError(f"cannot be read as a PyTorch file: {error}", where=where) from error
    parts = content if isinstance(content, tuple) else (content, None)
    fields = _fields(parts[0])
    slices = parts[1] if len(parts) > 1 else None
    if fields is None or "edge_index" not in fields or not (slices is None or isinstance(slices, dict)):
        raise InvalidArgumentError(
            "is no data set of PyTorch Geometric", where=where, expected="(data, slices) with edge_index"
        )
    if slices is None:
        return [from_arrays(fields, where)]
    count = len(slices["edge_index"]) - 1
    return [from_arrays(_graph(fields, slices, index), f"{where}: graph {index}") for index in range(count)]


def _fields(data: Any) -> dict[str, Any] | None:
    """The attributes of a dict, a Data, or the storage inside one."""
    while isinstance(data, _StandIn):
        held = vars(data)
        data = next((held[name] for name in ("_store", "_mapping") if name in held), held)
    return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else None


def _graph(fields: dict[str, Any], slices: dict[str, Any], index: int) -> dict[str, Any]:
    """What belongs to one graph."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in slices:
            continue
        begin, end = int(slices[name][index]), int(slices[name][index + 1])
        if isinstance(value, torch.Tensor) and value.ndim:
            found[name] = value[..., begin:end] if name in ("edge_index", "edge_label_index") else value[begin:end]
        elif isinstance(value, (list, tuple)):
            found[name] = value[begin] if begin < end else None
    return {name: value for name, value in found.items() if value is not None}

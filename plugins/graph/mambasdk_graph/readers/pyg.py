"""Processed data sets of PyTorch Geometric (`processed/*.pt`), read without it and without running what they hold."""

from __future__ import annotations

import dataclasses
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph.graph import Graph
from mambasdk_graph.readers.arrays import FIELDS, from_arrays

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
    _name_unknown(fields, where)
    if slices is None:
        return [from_arrays(_known(fields), where)]
    count = len(slices["edge_index"]) - 1
    return [from_arrays(_known(_graph(fields, slices, index)), f"{where}: graph {index}") for index in range(count)]


def from_data(data: Any) -> Graph:
    """A graph or a batch from a Data or Batch in memory, or anything with its attributes; see Graph.from_pyg."""
    where = "Graph.from_pyg"
    fields = _fields(data)
    if fields is None or fields.get("edge_index") is None:
        raise InvalidArgumentError("no edge_index", where=where, expected="a Data with edge_index (2, E)")
    _name_unknown(fields, where)
    graph = from_arrays(_known(fields), where)
    ptr = fields.get("ptr")
    more = {name: fields[name] for name in ("edge_label_index", "split") if fields.get(name) is not None}
    if ptr is not None:
        more.update(ptr=ptr, batch=fields.get("batch"))
    return graph.replace(**more) if more else graph


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    """With edge_weight for edge_attr where that is absent."""
    if fields.get("edge_attr") is None and fields.get("edge_weight") is not None:
        return {**fields, "edge_attr": fields["edge_weight"]}
    return fields


def _name_unknown(fields: dict[str, Any], where: str) -> None:
    understood = {field.name for field in dataclasses.fields(Graph)} | {*FIELDS, "edge_weight"}
    unused = sorted(set(fields) - understood)
    if fields.get("edge_attr") is not None and fields.get("edge_weight") is not None:
        unused.append("edge_weight (edge_attr is there)")
    if unused:
        warnings.warn(f"{where}: fields that are not used: {', '.join(unused)}", UserWarning, stacklevel=3)


def _fields(data: Any) -> dict[str, Any] | None:
    """The attributes of a dict, a Data (torch_geometric's or a stand-in) or any object; no code of it is run."""
    while not isinstance(data, dict):
        held = getattr(data, "__dict__", None)
        if held is None:
            return None
        data = next((held[name] for name in ("_store", "_mapping") if name in held), held)
    return {str(name): value for name, value in data.items() if value is not None and not str(name).startswith("_")}


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

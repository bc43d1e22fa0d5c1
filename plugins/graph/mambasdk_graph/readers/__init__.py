"""Graphs from files: JSON, NumPy archives, CSV tables, OGB's folders and PyTorch Geometric's processed data."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mambasdk.errors import InvalidArgumentError
from mambasdk_graph.graph import Graph
from mambasdk_graph.readers.arrays import read_json, read_jsonl, read_npz
from mambasdk_graph.readers.pyg import read_pyg
from mambasdk_graph.readers.tables import read_csv, read_ogb

__all__ = ["read_csv", "read_graphs", "read_json", "read_jsonl", "read_npz", "read_ogb", "read_pyg"]


def read_graphs(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Graph]:
    """All graphs of some files and folders, in their order; the kind is seen from the name.

    .json one graph; .jsonl one on each line; .npz; .pt of PyTorch Geometric; a folder with num-node-list.csv(.gz) (or
    raw/ with one) is OGB's; one with edges.csv is tables. Raises InvalidArgumentError for anything else.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    graphs: list[Graph] = []
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise InvalidArgumentError("no such file", where=str(path))
        if path.is_dir():
            graphs += _read_folder(path)
        elif path.suffix == ".json":
            graphs.append(read_json(path))
        elif path.suffix == ".jsonl":
            graphs += read_jsonl(path)
        elif path.suffix == ".npz":
            graphs.append(read_npz(path))
        elif path.suffix == ".pt":
            graphs += read_pyg(path)
        else:
            raise InvalidArgumentError(
                "unknown kind of file", where=str(path), expected=".json, .jsonl, .npz, .pt or a folder of tables"
            )
    return graphs


def _read_folder(folder: Path) -> list[Graph]:
    for place in (folder, folder / "raw"):
        if any((place / f"num-node-list.csv{end}").is_file() for end in ("", ".gz")):
            return read_ogb(place)
    if (folder / "edges.csv").is_file():
        return [read_csv(folder)]
    raise InvalidArgumentError("no graphs in the folder", where=str(folder), expected="edges.csv or num-node-list.csv")

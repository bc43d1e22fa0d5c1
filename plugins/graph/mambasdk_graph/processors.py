"""The native processor `graph` and heads from Python."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mambasdk.errors import require_torch
from mambasdk.pipeline import NativeProcessor, raw_input

if TYPE_CHECKING:
    from mambasdk_graph.graph import Graph


class GraphProcessor(NativeProcessor):
    """A graph's JSON file to tensors; encodings, tokens and random orders of graphs at hand.

    Options: node_features, edge_features (how many a file must have, 0: any), categorical (False), max_nodes (1000000),
    max_edges (10000000); laplacian (K eigenpairs), random_walk (R return probabilities), order ("degree"; "core" or
    "page_rank" make order_key), noise_layers, noise_passes, buckets, tokens (False), walk_length (0), walks (1),
    repeats (1), seed (0), epoch (0).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("graph", "graph", options)

    def __call__(self, graph: str | os.PathLike[str] | bytes) -> dict[str, Any]:
        """graph: a path or the bytes of a JSON file. Returns x, edge_index, edge_attr, batch, ptr and the rest.

        Raises ValueError for a damaged file, with the place.
        """
        return self.run(graph=raw_input(graph))

    def encode(self, edge_index: Any, ptr: Any, epoch: int = 0) -> dict[str, Any]:
        """What the options ask for, of graphs at hand. edge_index: (2, E) int64; ptr: (G+1) int64."""
        edges, firsts = _contiguous(edge_index), _contiguous(ptr)
        return self.run_named(
            {"graph.edge_index": edges, "graph.ptr": firsts, "graph.epoch": np.array([epoch], np.int64)}
        )


class NodeClassification(NativeProcessor):
    """Logits of nodes to labels. Options: labels, activation ("softmax", "sigmoid" or "none"), input ("logits")."""

    def __init__(self, **options: Any) -> None:
        super().__init__("graph", "node_classification", options, head=True)
        self._input = str(options.get("input", "logits"))

    def __call__(self, logits: Any) -> list[dict[str, Any]]:
        """logits: float32 (N, C). Returns {"node", "label", "index", "score"} of each node."""
        nodes: list[dict[str, Any]] = self.run_named({self._input: logits})["json"]["nodes"]
        return nodes


def _contiguous(tensor: Any) -> Any:
    """A torch tensor or an array, on the CPU, as it lies in memory."""
    return tensor.cpu().contiguous() if hasattr(tensor, "contiguous") else np.ascontiguousarray(tensor, np.int64)


@functools.lru_cache(maxsize=16)
def _processor(options: str) -> GraphProcessor:
    return GraphProcessor(**json.loads(options))


def prepare(graph: Graph, options: Mapping[str, Any], *, epoch: int = 0) -> Graph:
    """The graph with what the options make and it does not have."""
    torch = require_torch("preparing a graph")
    asked = {name: value for name, value in options.items() if name not in ("node_features", "edge_features")}
    made = _processor(json.dumps(asked, sort_keys=True)).encode(
        graph.edge_index.cpu().contiguous(),
        graph.ptr.cpu().contiguous(),
        epoch,
    )
    device = graph.x.device
    fresh = {
        name: torch.as_tensor(value).to(device) for name, value in made.items() if getattr(graph, name, None) is None
    }
    return graph.replace(**fresh)


def from_manifest(entry: Mapping[str, Any], directory: Path) -> GraphProcessor:
    """The processor of a package's manifest entry."""
    return GraphProcessor(**{name: value for name, value in entry.items() if name != "kind"})

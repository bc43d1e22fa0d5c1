"""Graphs for mambasdk: Graph-Mamba and GMN, graphs as tensors, neighbourhood tokens, readers and metrics."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mambasdk_graph.processors import GraphProcessor, NodeClassification

if TYPE_CHECKING:
    from mambasdk_graph.graph import Graph, collate
    from mambasdk_graph.readers import read_graphs

__version__ = "0.1.0"
__all__ = ["Graph", "GraphProcessor", "NodeClassification", "__version__", "collate", "read_graphs"]

_NEED_TORCH = {"Graph": "graph", "collate": "graph", "read_graphs": "readers"}


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for."""
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(f"mambasdk_graph.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Rewritings of an exported graph before it becomes a native program. Each leaves what the graph computes as it is."""

from __future__ import annotations

from torch import fx

from mambasdk.lowering.passes.batch_norm import fold_batch_norm
from mambasdk.lowering.passes.checks import drop_checks, drop_copies
from mambasdk.lowering.passes.duplicates import merge_duplicates
from mambasdk.lowering.passes.endings import advance_activations, fuse_activations, fuse_residuals
from mambasdk.lowering.passes.rows import narrow_features, select_first
from mambasdk.lowering.passes.states import drop_idle_states

__all__ = [
    "advance_activations",
    "drop_checks",
    "drop_copies",
    "drop_idle_states",
    "fold_batch_norm",
    "fuse_activations",
    "fuse_residuals",
    "merge_duplicates",
    "narrow_features",
    "select_first",
    "simplify",
]


def simplify(module: fx.GraphModule, *, dense_layers: bool = True) -> fx.GraphModule:
    """All passes in turn, on the module's own graph. dense_layers: give dense layers an ending too."""
    graph = module.graph
    drop_checks(graph)
    graph.eliminate_dead_code()  # a result that nothing reads keeps a product from having one reader
    drop_copies(graph)
    merge_duplicates(graph)
    narrow_features(graph)
    select_first(graph)
    fold_batch_norm(graph)
    advance_activations(graph)
    fuse_activations(graph, dense_layers=dense_layers)
    fuse_residuals(graph, dense_layers=dense_layers)
    graph.eliminate_dead_code()
    module.recompile()
    return module

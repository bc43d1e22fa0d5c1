"""The family `gmn`: its models by name."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec

FAMILY = FamilySpec(
    name="gmn",
    summary="Graph Mamba Network, neighbourhood tokens by random walks (arXiv 2402.08678)",
    config=".config:GMNConfig",
    factory=".model:build",
    importer=".checkpoint:import_gmn",
    tiny={"d_model": 16, "d_state": 4, "walk_length": 2},
    head="graph_classification",
    processors={"graph": {"kind": "graph"}},
    causal=False,
)

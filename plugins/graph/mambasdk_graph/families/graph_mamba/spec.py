"""The family `graph_mamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Published configurations (arXiv 2402.00789).
_BUCKETS = {"order": "degree_random", "buckets": 3}
_PE16 = {"pe_width": 16, "max_freqs": 16}
_MOLECULE = {"node_encoder": "atom", "edge_encoder": "bond", "d_model": 96, "dim_in": 9, "edge_dim": 3, **_PE16}
_LRGB = {"dim_in": 14, "edge_dim": 2, "d_model": 96, "n_layer": 4, "join_x": False, "head": "node", **_PE16}
_DUMMY = {"edge_encoder": "dummy", "head": "node", **_PE16}
_VARIANTS: dict[str, dict[str, Any]] = {
    "graph-mamba-peptides-func": {**_MOLECULE, "n_layer": 3, "dim_out": 10, "layers_post_mp": 1},
    "graph-mamba-peptides-struct": {**_MOLECULE, "n_layer": 4, "dim_out": 11, "layers_post_mp": 1},
    "graph-mamba-pcqm-contact": {**_MOLECULE, "n_layer": 4, "dim_out": 1, "layers_post_mp": 1, "head": "edge"},
    "graph-mamba-voc-superpixels": {**_LRGB, **_BUCKETS, "dim_out": 21},
    "graph-mamba-coco-superpixels": {**_LRGB, **_BUCKETS, "dim_out": 81},
    "graph-mamba-malnet-tiny": {
        **_BUCKETS,
        "dim_in": 5,
        "dim_out": 5,
        "d_model": 64,
        "n_layer": 5,
        "edge_encoder": "dummy",
        "pe_width": 0,
        "node_encoder_bn": True,
        "layers_pre_mp": 1,
        "pooling": "max",
    },
    "graph-mamba-mnist": {"dim_in": 3, "dim_out": 10},
    "graph-mamba-cifar10": {"dim_in": 5, "dim_out": 10, "layers_post_mp": 2},
    "graph-mamba-pattern": {**_DUMMY, "dim_in": 3, "dim_out": 1, "d_model": 64, "n_layer": 6},
    "graph-mamba-cluster": {**_DUMMY, "dim_in": 7, "dim_out": 6, "d_model": 48, "n_layer": 16, "dropout": 0.1},
}

FAMILY = FamilySpec(
    name="graph_mamba",
    summary="Graph-Mamba, GPS layers with a Mamba over sorted nodes (arXiv 2402.00789)",
    config=".config:GraphMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_graph_mamba",
    variants=_VARIANTS,
    tiny={"d_model": 16, "n_layer": 2, "pe_width": 4, "max_freqs": 4, "d_state": 4, "eval_passes": 2},
    head="graph_classification",
    processors={"graph": {"kind": "graph"}},
    causal=False,
)

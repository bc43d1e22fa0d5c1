"""Configurations of upstream, flat and nested: what they mean here, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import mambasdk

Golden = Callable[[str], Path]
CONFIGS = {
    "gnn.act": "gelu",
    "gt.layer_type": "CustomGatedGCN+Transformer",
    "dataset.node_encoder_name": "PPANode",
    "dataset.edge_encoder_name": "TypeDictEdge",
    "gnn.head": "san_graph",
}


@pytest.mark.parametrize("key", CONFIGS)
def test_configurations_that_are_not_built_are_refused_by_name(golden: Golden, key: str) -> None:
    folder = golden("graph-mamba")
    config = json.loads((folder / "config.json").read_text())
    config["cfg_overrides"][key] = CONFIGS[key]
    with pytest.raises(mambasdk.errors.CheckpointError, match=f"{key} = .*{CONFIGS[key].split('+')[-1]}.*expected"):
        mambasdk.import_checkpoint("graph_mamba", config, load_file(folder / "weights.safetensors"))


LAYER_TYPES = {
    "Mamba": ("none", 1, 0),
    "Mamba_Permute": ("random", 1, 0),
    "Mamba_Degree": ("degree", 1, 0),
    "Mamba_Hybrid_Degree_Noise": ("degree_random", 5, 0),
    "Mamba_Hybrid_Degree_Noise_Bucket": ("degree_random", 5, 3),
    "Mamba_Hybrid_Noise": ("random", 5, 3),  # upstream runs the other's body
    "Mamba_Hybrid_Noise_Bucket": ("random", 5, 0),
}


@pytest.mark.parametrize("name", LAYER_TYPES)
def test_layer_types_of_upstream_and_nested_configurations(golden: Golden, name: str) -> None:
    folder = golden("graph-mamba")
    given = json.loads((folder / "config.json").read_text())
    flat = given["cfg_overrides"]
    nested: dict[str, Any] = {}
    for key, value in {**flat, "gt.layer_type": f"CustomGatedGCN+{name}"}.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    model: Any = mambasdk.import_checkpoint("graph_mamba", nested, load_file(folder / "weights.safetensors"))
    config = model.config
    assert (config.order, config.eval_passes, config.buckets) == LAYER_TYPES[name]
    sizes = (config.dim_in, config.edge_dim, config.dim_out)  # from the weights
    assert sizes == (given["dim_in"], given["edge_dim"], given["dim_out"])

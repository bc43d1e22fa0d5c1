"""Import of upstream checkpoints: GraphGym configurations of Graph-Mamba."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, UpstreamConfig, config_where, renamed, require

# What follows "CustomGatedGCN+" in gt.layer_type -> order, passes of evaluation, buckets. Hybrid_Noise and
# Hybrid_Noise_Bucket are what they really ran: their bodies are swapped upstream.
_LAYERS = {
    "Mamba": ("none", 1, 0),
    "Mamba_Permute": ("random", 1, 0),
    "Mamba_Degree": ("degree", 1, 0),
    "Mamba_Hybrid": ("random", 5, 0),
    "Mamba_Hybrid_Degree": ("degree_random", 5, 0),
    "Mamba_Hybrid_Degree_Noise": ("degree_random", 5, 0),
    "Mamba_Hybrid_Degree_Noise_Bucket": ("degree_random", 5, 3),
    "Mamba_Hybrid_Noise": ("random", 5, 3),
    "Mamba_Hybrid_Noise_Bucket": ("random", 5, 0),
}
_NODE_ENCODERS = {"Atom": "atom", "VOCNode": "linear", "COCONode": "linear", "LinearNode": "linear"}
_EDGE_ENCODERS = {
    "Bond": "bond",
    "VOCEdge": "linear",
    "COCOEdge": "linear",
    "LinearEdge": "linear",
    "DummyEdge": "dummy",
}
_HEADS = {"graph": "graph", "default": "graph", "inductive_node": "node", "node": "node", "inductive_edge": "edge"}
# Keys with one value that we build; another is refused.
_FIXED = {
    "gnn.act": ("relu",),
    "gnn.l2norm": (True,),
    "gt.layer_norm": (False,),
    "gt.batch_norm": (True,),
    "posenc_LapPE.eigen.laplacian_norm": ("none",),
    "posenc_LapPE.eigen.eigvec_norm": ("L2",),
    "posenc_LapPE.model": ("DeepSet",),
    "posenc_LapPE.raw_norm_type": ("none",),
}
_SETTINGS = {
    "gt.dim_hidden": "d_model",
    "gnn.dropout": "dropout",
    "gt.attn_dropout": "attn_dropout",
    "dataset.node_encoder_bn": "node_encoder_bn",
    "dataset.edge_encoder_bn": "edge_encoder_bn",
    "gnn.layers_pre_mp": "layers_pre_mp",
    "gnn.layers_post_mp": "layers_post_mp",
    "model.graph_pooling": "pooling",
    "posenc_LapPE.eigen.max_freqs": "max_freqs",
    "posenc_LapPE.layers": "pe_layers",
}


def import_graph_mamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Overrides from a GraphGym configuration, flat ("gt.layers") or nested; tensor names are ours already.

    dim_in, dim_out and edge_dim stand beside it or are read from the weights.
    """
    flat = UpstreamConfig(_flat(config.get("cfg_overrides", config)), config_where(config))
    require(flat, _FIXED, "graph_mamba")
    settings = renamed(flat, _SETTINGS)
    # peptides-func names no gt.layers upstream and silently gets 3.
    settings["n_layer"] = flat.get("gt.layers", 3)
    settings.update(_layer_type(flat.get("gt.layer_type", "CustomGatedGCN+Mamba_Hybrid_Degree_Noise")))
    settings.update(_encoders(flat))
    settings["head"] = _choice(flat, "gnn.head", _HEADS, "default")
    if "eval_passes" in config and settings["order"] != "none" and settings["eval_passes"] > 1:
        settings["eval_passes"] = config["eval_passes"]
    for key in ("dim_in", "dim_out", "edge_dim"):
        if key in config:
            settings[key] = config[key]
    settings.update(_sizes_of(weights, settings))
    return settings, weights


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = value
    return found


def _choice(flat: Mapping[str, Any], key: str, known: Mapping[str, str], otherwise: str) -> str:
    value = flat.get(key, otherwise)
    if value not in known:
        raise CheckpointError(
            f"{key} = {value!r} is not built here", where="config.json", expected=" or ".join(sorted(known))
        )
    return known[value]


def _layer_type(text: str) -> dict[str, Any]:
    local, _, branch = str(text).partition("+")
    if local != "CustomGatedGCN" or branch not in _LAYERS:
        raise CheckpointError(
            f"gt.layer_type = {text!r} is not built here",
            where="config.json",
            expected="CustomGatedGCN+ one of " + ", ".join(_LAYERS),
        )
    order, passes, buckets = _LAYERS[branch]
    return {"order": order, "eval_passes": passes, "buckets": buckets}


def _encoders(flat: Mapping[str, Any]) -> dict[str, Any]:
    named = str(flat.get("dataset.node_encoder_name", "LinearNode"))
    names = named.split("+") if flat.get("dataset.node_encoder", True) else []
    pe = "LapPE" in names
    others = [name for name in names if name != "LapPE"]
    if len(others) > 1 or any(name not in _NODE_ENCODERS for name in others):
        raise CheckpointError(
            f"dataset.node_encoder_name = {'+'.join(names)!r} is not built here",
            where="config.json",
            expected=f"one of {', '.join(_NODE_ENCODERS)}, with +LapPE or without, or LapPE",
        )
    found: dict[str, Any] = {"pe_width": flat.get("posenc_LapPE.dim_pe", 16) if pe else 0, "join_x": not others}
    found["node_encoder"] = _NODE_ENCODERS[others[0]] if others else ("linear" if pe else "none")
    found["edge_encoder"] = "none"
    if flat.get("dataset.edge_encoder", True):
        found["edge_encoder"] = _choice(flat, "dataset.edge_encoder_name", _EDGE_ENCODERS, "DummyEdge")
    return found


def _sizes_of(weights: Checkpoint, settings: Mapping[str, Any]) -> dict[str, int]:
    """Feature sizes that the configuration does not have: GraphGym takes them from the data."""
    nodes = ("linear_x", "encoder1.encoder", "encoder")
    places = {
        "dim_in": ("node_encoder", [f"encoder.node_encoder.{name}.weight" for name in nodes]),
        "edge_dim": ("edge_encoder", ["encoder.edge_encoder.encoder.weight"]),
    }
    found: dict[str, int] = {}
    for field, (encoder, candidates) in places.items():
        for name in candidates:
            if field not in settings and settings[encoder] == "linear" and name in weights:
                found[field] = int(weights[name].shape[1])
    if "dim_out" not in settings and settings["head"] != "edge":
        last = "post_mp.layer_post_mp.model.1.model.weight"
        name = last if last in weights else "post_mp.layer_post_mp.model.0.model.weight"
        if name in weights:
            found["dim_out"] = int(weights[name].shape[0])
    return found

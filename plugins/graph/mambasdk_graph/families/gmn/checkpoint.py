"""Import of weights of the GMN reading."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, layer_count, renamed
from mambasdk_graph.families.gmn.config import GMNConfig

# Keys of a GMN configuration -> ours; names of the golden files (docs/graph.md).
_GMN = {"d": "d_model", "m": "walk_length", "M": "walks", "s": "repeats", "d_state": "d_state", "expand": "expand"}


def import_gmn(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Overrides from {"d", "m", "M", "s", "d_state", "expand"}, alone or under "gmn_reading"; ours may stand beside.

    Weights without encoders and head give a model without them. The authors published neither code nor weights.
    """
    config = config.get("gmn_reading", config)
    settings = renamed(config, _GMN)
    known = {field.name for field in dataclasses.fields(GMNConfig)}
    settings.update({name: value for name, value in config.items() if name in known and name not in ("seed",)})
    for part in ("sub", "node"):
        settings[f"{part}_layers"] = layer_count(weights, f"{part}.")
    settings["mpnn"] = "mpnn.A.weight" in weights
    settings["bidirectional"] = "sub.0.bwd.A_log" in weights
    if not any(name.startswith("node_encoder.") for name in weights):
        settings.update(node_encoder="none", dim_in=settings.get("d_model", GMNConfig.d_model))
    if not any(name.startswith("edge_encoder.") for name in weights):
        settings["edge_encoder"] = "none"
    if "head.weight" not in weights:
        settings["head"] = "none"
    return settings, weights

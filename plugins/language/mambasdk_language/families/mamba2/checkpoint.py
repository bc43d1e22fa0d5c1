"""Import of both published checkpoint formats: state-spaces/mamba and transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, config_where, require
from mambasdk_language.checkpoint import (
    HUGGINGFACE,
    ORIGINAL_MAMBA2,
    huggingface_settings,
    is_huggingface,
    original_names,
    original_settings,
    step_limit,
)

_HUGGINGFACE = {**HUGGINGFACE, "head_dim": "headdim", "n_groups": "ngroups"}
_HUGGINGFACE_GROUPS = 8  # of a Mamba2Config of transformers without n_groups


def import_mamba2(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a checkpoint of state-spaces/mamba or of transformers."""
    if not is_huggingface(config):
        settings = original_settings(config, weights, ORIGINAL_MAMBA2, "Mamba2", "mamba2")
        return settings, original_names(weights)
    require(config, {"model_type": ("mamba2",), "hidden_act": ("silu",), "rms_norm": (True,)}, "mamba2")
    settings = {"ngroups": _HUGGINGFACE_GROUPS, **huggingface_settings(config, weights, _HUGGINGFACE)}
    inner = int(settings.get("expand", 2) * settings["d_model"])
    heads = config.get("num_heads")
    if heads is not None and heads * settings.get("headdim", 64) != inner:
        raise CheckpointError(
            f"num_heads {heads} * head_dim {settings.get('headdim', 64)} is not expand * hidden_size",
            where=config_where(config),
            expected=inner,
        )
    if (limit := step_limit(config)) is not None:
        settings["dt_limit"] = limit
    return settings, original_names(weights)

"""Import of both published checkpoint formats: state-spaces/mamba and transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, require
from mambasdk_language.checkpoint import (
    HUGGINGFACE,
    ORIGINAL_MAMBA,
    huggingface_settings,
    is_huggingface,
    original_names,
    original_settings,
)

_HUGGINGFACE = {
    **HUGGINGFACE,
    "intermediate_size": "d_inner",
    "time_step_rank": "dt_rank",
    "time_step_init_scheme": "dt_init",
    "time_step_scale": "dt_scale",
}


def import_mamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a checkpoint of state-spaces/mamba or of transformers."""
    if not is_huggingface(config):
        return original_settings(config, weights, ORIGINAL_MAMBA, "Mamba1", "mamba"), original_names(weights)
    require(config, {"model_type": ("mamba",), "hidden_act": ("silu",)}, "mamba")
    settings = huggingface_settings(config, weights, _HUGGINGFACE)
    # The usual width and rank are left to `expand` and "auto": one configuration has one spelling.
    if settings.get("d_inner") == int(settings.get("expand", 2) * settings["d_model"]):
        del settings["d_inner"]
    if settings.get("dt_rank") == -(-settings["d_model"] // 16):
        del settings["dt_rank"]
    return settings, original_names(weights)

"""Import of hybrid checkpoints: Megatron's, those of state-spaces/mamba with attention, and those of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint
from mambasdk_language.checkpoint import is_huggingface
from mambasdk_language.families.hybrid.huggingface import MODELS, import_huggingface
from mambasdk_language.families.hybrid.megatron import import_megatron, is_megatron
from mambasdk_language.families.hybrid.original import import_original


def import_hybrid(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a checkpoint of any of the three formats."""
    if is_megatron(weights):
        return import_megatron(config, weights)
    if config.get("model_type") in MODELS or is_huggingface(config):
        return import_huggingface(config, weights)
    return import_original(config, weights)

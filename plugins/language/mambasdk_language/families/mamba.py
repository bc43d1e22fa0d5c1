"""The family `mamba`: configuration, module, and import of both published checkpoint formats (spec mamba.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from mambasdk.models import Checkpoint
from mambasdk.nn import CausalLM, Mamba
from mambasdk_language.families.language_model import (
    HUGGINGFACE,
    LanguageModelConfig,
    language_model,
    original_settings,
)
from mambasdk_language.families.upstream import is_huggingface, original_names, renamed, require, vocabulary


@dataclass
class MambaConfig(LanguageModelConfig):
    """A Mamba language model.

    dt_rank: R, "auto" is ceil(D / 16). dt_init, dt_scale: initialisation of the step sizes. The rest is described with
    LanguageModelConfig.
    """

    dt_rank: int | Literal["auto"] = "auto"
    dt_init: Literal["random", "constant"] = "random"
    dt_scale: float = 1.0


def build(config: MambaConfig) -> CausalLM:
    """The module of a configuration, freshly initialised; also on the meta device."""
    mixers = [
        Mamba(
            config.d_model,
            config.d_state,
            config.d_conv,
            config.expand,
            config.dt_rank,
            dt_min=config.dt_min,
            dt_max=config.dt_max,
            dt_init=config.dt_init,
            dt_scale=config.dt_scale,
            dt_init_floor=config.dt_init_floor,
            bias=config.bias,
            conv_bias=config.conv_bias,
            d_inner=config.d_inner,
        )
        for _ in range(config.n_layer)
    ]
    return language_model(config, mixers)


_HUGGINGFACE = {
    **HUGGINGFACE,
    "intermediate_size": "d_inner",
    "time_step_rank": "dt_rank",
    "time_step_init_scheme": "dt_init",
    "time_step_scale": "dt_scale",
}


def import_mamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a checkpoint of state-spaces/mamba or of transformers."""
    if is_huggingface(config):
        require(config, {"model_type": ("mamba",), "hidden_act": ("silu",)}, "mamba")
        settings = renamed(config, _HUGGINGFACE)
        settings.setdefault("pad_vocab_size_multiple", 8)
        # The usual width is left to `expand`, so that a published variant keeps its identity.
        if settings.get("d_inner") == int(settings.get("expand", 2) * settings["d_model"]):
            del settings["d_inner"]
        if settings.get("dt_rank") == -(-settings["d_model"] // 16):
            del settings["dt_rank"]
        settings.update(vocabulary(settings["vocab_size"], weights))
    else:
        settings = original_settings(config, ("dt_rank", "dt_init", "dt_scale"), "Mamba1", "mamba")
    return settings, original_names(weights)

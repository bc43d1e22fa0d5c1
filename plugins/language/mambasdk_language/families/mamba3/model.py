"""The model of the family `mamba3` (arXiv 2603.15569)."""

from __future__ import annotations

from mambasdk.nn import Mamba3
from mambasdk_language.families.mamba3.config import Mamba3Config
from mambasdk_language.model import LanguageModel, language_model


def build(config: Mamba3Config) -> LanguageModel:
    """The module of a configuration, freshly initialised; also on the meta device."""
    mixers = [
        Mamba3(
            config.d_model,
            config.d_state,
            config.expand,
            config.headdim,
            config.ngroups,
            rope_fraction=config.rope_fraction,
            is_mimo=config.is_mimo,
            mimo_rank=config.mimo_rank,
            is_outproj_norm=config.is_outproj_norm,
            A_floor=config.A_floor,
            A_activation=config.A_activation,
            dt_min=config.dt_min,
            dt_max=config.dt_max,
            dt_init_floor=config.dt_init_floor,
            d_inner=config.d_inner,
        )
        for _ in range(config.n_layer)
    ]
    return language_model(config, mixers)

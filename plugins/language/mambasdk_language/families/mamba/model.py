"""The model of the family `mamba` (arXiv 2312.00752)."""

from __future__ import annotations

from typing import Any

from mambasdk.nn import Mamba
from mambasdk_language.families.mamba.config import MambaConfig
from mambasdk_language.model import LanguageModel, language_model


def build(config: MambaConfig) -> LanguageModel:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return language_model(config, [mixer_of(config) for _ in range(config.n_layer)])


def mixer_of(config: MambaConfig, **more: Any) -> Mamba:
    """A mixer of a configuration that has the fields of MambaConfig. more: its other arguments."""
    return Mamba(
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
        **more,
    )

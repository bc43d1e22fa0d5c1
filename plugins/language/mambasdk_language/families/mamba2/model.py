"""The model of the family `mamba2` (arXiv 2405.21060)."""

from __future__ import annotations

from typing import Any

from mambasdk.nn import Mamba2
from mambasdk_language.families.mamba2.config import Mamba2Config, ascending_pair, step_limits
from mambasdk_language.model import LanguageModel, language_model


def build(config: Mamba2Config) -> LanguageModel:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return language_model(config, [mixer_of(config) for _ in range(config.n_layer)])


def mixer_of(config: Mamba2Config, **more: Any) -> Mamba2:
    """A mixer of a configuration that has the fields of Mamba2Config. more: its other arguments."""
    return Mamba2(
        config.d_model,
        config.d_state,
        config.d_conv,
        config.expand,
        config.headdim,
        config.ngroups,
        d_ssm=config.d_ssm,
        A_init_range=ascending_pair("A_init_range", config.A_init_range),
        D_has_hdim=config.D_has_hdim,
        rmsnorm=config.rmsnorm,
        norm_before_gate=config.norm_before_gate,
        dt_min=config.dt_min,
        dt_max=config.dt_max,
        dt_init_floor=config.dt_init_floor,
        dt_limit=step_limits(config.dt_limit),
        conv_init=config.conv_init,
        bias=config.bias,
        conv_bias=config.conv_bias,
        d_inner=config.d_inner,
        **{"norm_eps": config.norm_epsilon, **more},
    )

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
    return Mamba(**mixer_options(config), **more)


def mixer_options(config: Any) -> dict[str, Any]:
    """The arguments of `mambasdk.nn.Mamba`, and of mixers like it, that a configuration has as fields."""
    names = ("d_model", "d_state", "d_conv", "expand", "dt_rank", "dt_min", "dt_max", "dt_init", "dt_scale")
    more = ("dt_init_floor", "bias", "conv_bias", "d_inner")
    return {name: getattr(config, name) for name in (*names, *more)}

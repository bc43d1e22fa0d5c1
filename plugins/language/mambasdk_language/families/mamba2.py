"""The family `mamba2`: configuration, module, and import of both published checkpoint formats (spec mamba2.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import Checkpoint
from mambasdk.nn import CausalLM, Mamba2
from mambasdk_language.families.language_model import (
    HUGGINGFACE,
    LanguageModelConfig,
    language_model,
    original_settings,
)
from mambasdk_language.families.upstream import is_huggingface, original_names, renamed, require, vocabulary


@dataclass
class Mamba2Config(LanguageModelConfig):
    """A Mamba-2 language model.

    headdim: P. ngroups: G. d_ssm: S, None is I. A_init_range, conv_init: initialisation. dt_limit: clamps the step
    sizes. D_has_hdim, rmsnorm, norm_before_gate: see `mambasdk.nn.Mamba2`. The rest is described with
    LanguageModelConfig.
    """

    pad_vocab_size_multiple: int = 16
    d_state: int = 128
    headdim: int = 64
    ngroups: int = 1
    d_ssm: int | None = None
    A_init_range: Sequence[float] = (1.0, 16.0)
    D_has_hdim: bool = False
    rmsnorm: bool = True
    norm_before_gate: bool = False
    dt_limit: Sequence[float] | None = None
    conv_init: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("headdim", "ngroups")
        self.A_init_range = _pair("A_init_range", self.A_init_range)
        if self.dt_limit is not None:
            limit = _pair("dt_limit", self.dt_limit)
            # The limits that change nothing have one spelling, and JSON has no infinity.
            self.dt_limit = None if limit[0] <= 0 and math.isinf(limit[1]) else limit


def build(config: Mamba2Config) -> CausalLM:
    """The module of a configuration, freshly initialised; also on the meta device."""
    mixers = [
        Mamba2(
            config.d_model,
            config.d_state,
            config.d_conv,
            config.expand,
            config.headdim,
            config.ngroups,
            d_ssm=config.d_ssm,
            A_init_range=_pair("A_init_range", config.A_init_range),
            D_has_hdim=config.D_has_hdim,
            rmsnorm=config.rmsnorm,
            norm_before_gate=config.norm_before_gate,
            dt_min=config.dt_min,
            dt_max=config.dt_max,
            dt_init_floor=config.dt_init_floor,
            dt_limit=None if config.dt_limit is None else _pair("dt_limit", config.dt_limit),
            conv_init=config.conv_init,
            bias=config.bias,
            conv_bias=config.conv_bias,
            d_inner=config.d_inner,
            norm_eps=config.norm_epsilon,
        )
        for _ in range(config.n_layer)
    ]
    return language_model(config, mixers)


# Further keys of `ssm_cfg` in an original configuration.
_ORIGINAL_MIXER = (
    "conv_init",
    "headdim",
    "ngroups",
    "d_ssm",
    "A_init_range",
    "D_has_hdim",
    "rmsnorm",
    "norm_before_gate",
    "dt_limit",
)
_HUGGINGFACE = {**HUGGINGFACE, "head_dim": "headdim", "n_groups": "ngroups", "time_step_limit": "dt_limit"}


def import_mamba2(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a checkpoint of state-spaces/mamba or of transformers."""
    if not is_huggingface(config):
        return original_settings(config, _ORIGINAL_MIXER, "Mamba2", "mamba2"), original_names(weights)
    require(config, {"model_type": ("mamba2",), "hidden_act": ("silu",), "rms_norm": (True,)}, "mamba2")
    settings = renamed(config, _HUGGINGFACE)
    inner = int(settings.get("expand", 2) * settings["d_model"])
    heads = config.get("num_heads")
    if heads is not None and heads * settings.get("headdim", 64) != inner:
        raise CheckpointError(
            f"num_heads {heads} * head_dim {settings.get('headdim', 64)} is not expand * hidden_size",
            where="config.json",
            expected=inner,
        )
    if "dt_limit" in settings:
        settings["dt_limit"] = [_number(value) for value in settings["dt_limit"]]
    settings.update(vocabulary(settings["vocab_size"], weights))
    return settings, original_names(weights)


def _number(value: Any) -> float:
    """A number; transformers 5 writes infinity as {"__float__": "Infinity"}."""
    if isinstance(value, Mapping):
        value = value.get("__float__")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise CheckpointError(
            "bad time_step_limit", where="config.json", expected="two numbers", got=repr(value)
        ) from None


def _pair(name: str, value: Any) -> tuple[float, float]:
    """Two ascending numbers."""
    try:
        low, high = map(float, value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low <= high:
        raise InvalidArgumentError(f"bad {name}", where="Mamba2Config", expected="two ascending numbers", got=value)
    return low, high

"""Fields of transformers' configurations that several hybrids spell alike, as our settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mambasdk.errors import CheckpointError
from mambasdk.models import config_where, require_sizes
from mambasdk_language.checkpoint import step_limit
from mambasdk_language.families.hybrid.tensors import Rewriting

Settings = dict[str, Any]
Config = Mapping[str, Any]
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "relu2": "squared_relu",
}
_LAYER_TYPES = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
    "hybrid": "S",
}


def value_of(config: Config, key: str, default: Any) -> Any:
    """The value, the default where it is absent or null."""
    value = config.get(key)
    return default if value is None else value


def activation(config: Config, key: str, default: str) -> str:
    """Our name of an activation; raises CheckpointError for one that there is none of."""
    name = value_of(config, key, default)
    if name not in _ACTIVATIONS:
        raise CheckpointError(
            f"bad {key}", where=config_where(config), expected=" or ".join(_ACTIVATIONS), got=repr(name)
        )
    return _ACTIVATIONS[name]


def attention(config: Config, kv_heads: int | None) -> Settings:
    """Heads and their width; kv_heads: of a configuration without the key, None for as many as queries."""
    heads = value_of(config, "num_attention_heads", 32)
    # A null is transformers' own way to say "as many as there are queries'".
    given = config.get("num_key_value_heads", kv_heads)
    return {
        "num_heads": heads,
        "num_kv_heads": heads if given is None else given,
        "head_dim": value_of(config, "head_dim", config["hidden_size"] // heads),
        "window": value_of(config, "sliding_window", 0),
    }


def rotary(config: Config, head_dim: int, share: float = 1.0) -> Settings:
    """Positions of the plain kind; share: of a head's channels that turn, where the configuration is silent."""
    given = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = given.get("rope_type", given.get("type", "default"))
    if kind != "default":
        raise CheckpointError(f"rotary positions of type {kind!r}", where=config_where(config), expected="'default'")
    share = given.get("partial_rotary_factor", value_of(config, "partial_rotary_factor", share))
    base = given.get("rope_theta", value_of(config, "rope_theta", 10000.0))
    return {"rotary_dim": int(head_dim * share), "rotary_base": float(base)}


def mamba2(config: Config, groups: int = 1) -> Settings:
    """Mamba-2 as Bamba, Granite and Falcon-H1 spell it."""
    heads = value_of(config, "mamba_n_heads", 128)
    inner = value_of(config, "mamba_d_ssm", value_of(config, "mamba_expand", 2) * config["hidden_size"])
    headdim = value_of(config, "mamba_d_head", "auto")
    headdim = inner // heads if headdim == "auto" else headdim
    if headdim * heads != inner:
        raise CheckpointError(
            f"mamba_n_heads {heads} * mamba_d_head {headdim} is not the inner width",
            where=config_where(config),
            expected=inner,
        )
    return {
        "d_inner": inner,
        "headdim": headdim,
        "ngroups": value_of(config, "mamba_n_groups", groups),
        "d_state": value_of(config, "mamba_d_state", 256),
        "d_conv": value_of(config, "mamba_d_conv", 4),
        "conv_bias": value_of(config, "mamba_conv_bias", True),
        "bias": value_of(config, "mamba_proj_bias", False),
        "dt_limit": step_limit(config),
    }


def epsilon(config: Config, default: float) -> Settings:
    """Of every norm."""
    return {"norm_epsilon": value_of(config, "rms_norm_eps", default)}


def biased(config: Config) -> Settings:
    """Biases of all four projections of the attention, or of none."""
    bias = value_of(config, "attention_bias", False)
    return {"attention_bias": bias, "attention_out_bias": bias}


def gated_mlp(config: Config, size: int) -> Settings:
    """MLPs of three matrices; size: of a configuration without the key."""
    return {
        "d_mlp": value_of(config, "intermediate_size", size),
        "mlp_gated": True,
        "mlp_activation": "silu",
        "mlp_bias": value_of(config, "mlp_bias", False),
    }


def layers(config: Config, default: int | None = None) -> int:
    """How many there are."""
    if config.get("num_hidden_layers") is None and default is not None:
        return default
    require_sizes(config, ("num_hidden_layers",))
    count: int = config["num_hidden_layers"]
    return count


def symbols(config: Config, types: Any) -> str:
    """Transformers' names of layers, old and new, as a pattern."""
    if not isinstance(types, (list, tuple)) or not all(kind in _LAYER_TYPES for kind in types):
        raise CheckpointError(
            "bad layer types", where=config_where(config), expected=" or ".join(_LAYER_TYPES), got=repr(types)[:80]
        )
    return "".join(_LAYER_TYPES[kind] for kind in types)


def rename_mixer(made: Rewriting, symbol: str, ours: str, theirs: str) -> None:
    """A mixer under `mamba` or `self_attn`, as most models have it, with its norm."""
    made.take(f"{ours}.norm.weight", f"{theirs}.input_layernorm.weight")
    if symbol == "*":
        made.attention(f"{ours}.mixer", f"{theirs}.self_attn")
    else:
        (made.mamba2 if symbol == "M" else made.mamba)(f"{ours}.mixer", f"{theirs}.mamba")

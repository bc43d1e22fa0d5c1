"""Import of transformers' hybrid models: for each `model_type` its settings and where its tensors go.

What a configuration leaves out is as transformers' own classes have it. Each model is one function, which reads the
configuration and renames the tensors layer by layer, because both follow the same pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, config_where, renamed, require, require_sizes
from mambasdk_language.checkpoint import EMBEDDING, HF_EMBEDDING, step_limit, tied_head, vocabulary
from mambasdk_language.families.hybrid.tensors import BACKBONE, LINEAR, Rewriting, swapped

Settings = dict[str, Any]
Config = Mapping[str, Any]
_EMBEDDINGS = {"model.embed_tokens.weight", "model.embeddings.weight", HF_EMBEDDING}
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "relu2": "squared_relu",
}
_OWN_ACTIVATION = ("nemotron_h", "zamba2")
_LAYER_TYPES = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
    "hybrid": "S",
}
_NEMOTRON = {
    "ssm_state_size": "d_state",
    "mamba_head_dim": "headdim",
    "n_groups": "ngroups",
    "conv_kernel": "d_conv",
    "use_bias": "bias",
    "use_conv_bias": "conv_bias",
    "mlp_bias": "mlp_bias",
    "layer_norm_epsilon": "norm_epsilon",
    "moe_intermediate_size": "d_expert",
    "moe_shared_expert_intermediate_size": "d_shared_expert",
    "moe_latent_size": "d_latent",
    "n_routed_experts": "num_experts",
    "num_experts_per_tok": "experts_per_token",
    "n_group": "router_groups",
    "topk_group": "router_top_groups",
    "norm_topk_prob": "router_normalize",
    "routed_scaling_factor": "router_factor",
    "intermediate_size": "d_mlp",
}


def import_huggingface(config: Config, weights: Checkpoint) -> tuple[Settings, Mapping[str, Tensor]]:
    """Overrides and tensors of a checkpoint of transformers."""
    kind = config.get("model_type")
    if kind not in MODELS:
        raise CheckpointError(
            f"model_type = {kind!r} is no model of family hybrid",
            where=config_where(config),
            expected=" or ".join(map(repr, MODELS)),
        )
    weights = weights.rename(dict.fromkeys(_EMBEDDINGS, EMBEDDING))
    # Families of transformers have their decoder under either name.
    weights = weights.rename(lambda name: "model." + name[9:] if name.startswith("backbone.layers.") else name)
    weights = weights.rename({"backbone.norm_f.weight": "model.norm_f.weight"})
    require_sizes(config, ("hidden_size",), ("vocab_size",))
    made = Rewriting(weights)
    for name in ("norm_f", "final_layernorm", "norm"):
        made.take("backbone.norm_f.weight", f"model.{name}.weight")
    if kind not in _OWN_ACTIVATION:  # there it is that of the mixers too, which have no other
        require(config, {"hidden_act": ("silu", "swish", None)}, "hybrid")
    tie, settings = MODELS[kind](config, made)
    tied = config.get("tie_word_embeddings", tie)
    shared = {
        "d_model": config["hidden_size"],
        **renamed(config, {"initializer_range": "initializer_range"}),
        **vocabulary(config, weights, 1),
        "tie_embeddings": tied_head({**config, "tie_word_embeddings": tied}, weights, "tie_word_embeddings"),
    }
    return {**shared, **settings}, made.result()


# ---- what several of them share ----


def _get(config: Config, key: str, default: Any) -> Any:
    """The value, the default where it is absent or null."""
    value = config.get(key)
    return default if value is None else value


def _activation(config: Config, key: str, default: str) -> str:
    name = _get(config, key, default)
    if name not in _ACTIVATIONS:
        raise CheckpointError(
            f"bad {key}", where=config_where(config), expected=" or ".join(_ACTIVATIONS), got=repr(name)
        )
    return _ACTIVATIONS[name]


def _attention(config: Config, kv_heads: int | None) -> Settings:
    heads = _get(config, "num_attention_heads", 32)
    # A null is transformers' own way to say "as many as there are queries'".
    given = config.get("num_key_value_heads", kv_heads)
    return {
        "num_heads": heads,
        "num_kv_heads": heads if given is None else given,
        "head_dim": _get(config, "head_dim", config["hidden_size"] // heads),
        "window": _get(config, "sliding_window", 0),
    }


def _rotary(config: Config, head_dim: int, share: float = 1.0) -> Settings:
    """Positions of the plain kind; share: of a head's channels that turn, where the configuration is silent."""
    given = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = given.get("rope_type", given.get("type", "default"))
    if kind != "default":
        raise CheckpointError(f"rotary positions of type {kind!r}", where=config_where(config), expected="'default'")
    share = given.get("partial_rotary_factor", _get(config, "partial_rotary_factor", share))
    base = given.get("rope_theta", _get(config, "rope_theta", 10000.0))
    return {"rotary_dim": int(head_dim * share), "rotary_base": float(base)}


def _mamba2(config: Config, groups: int = 1) -> Settings:
    """Mamba-2 as Bamba, Granite and Falcon-H1 spell it."""
    heads = _get(config, "mamba_n_heads", 128)
    inner = _get(config, "mamba_d_ssm", _get(config, "mamba_expand", 2) * config["hidden_size"])
    headdim = _get(config, "mamba_d_head", "auto")
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
        "ngroups": _get(config, "mamba_n_groups", groups),
        "d_state": _get(config, "mamba_d_state", 256),
        "d_conv": _get(config, "mamba_d_conv", 4),
        "conv_bias": _get(config, "mamba_conv_bias", True),
        "bias": _get(config, "mamba_proj_bias", False),
        "dt_limit": step_limit(config),
    }


def _epsilon(config: Config, default: float) -> Settings:
    return {"norm_epsilon": _get(config, "rms_norm_eps", default)}


def _biased(config: Config) -> Settings:
    bias = _get(config, "attention_bias", False)
    return {"attention_bias": bias, "attention_out_bias": bias}


def _gated_mlp(config: Config, size: int) -> Settings:
    return {
        "d_mlp": _get(config, "intermediate_size", size),
        "mlp_gated": True,
        "mlp_activation": "silu",
        "mlp_bias": _get(config, "mlp_bias", False),
    }


def _layers(config: Config, default: int | None = None) -> int:
    if config.get("num_hidden_layers") is None and default is not None:
        return default
    require_sizes(config, ("num_hidden_layers",))
    count: int = config["num_hidden_layers"]
    return count


def _symbols(config: Config, types: Any) -> str:
    if not isinstance(types, (list, tuple)) or not all(kind in _LAYER_TYPES for kind in types):
        raise CheckpointError(
            "bad layer types", where=config_where(config), expected=" or ".join(_LAYER_TYPES), got=repr(types)[:80]
        )
    return "".join(_LAYER_TYPES[kind] for kind in types)


def _mixer(made: Rewriting, symbol: str, ours: str, theirs: str) -> None:
    """A mixer under `mamba` or `self_attn`, as most models have it, with its norm."""
    made.take(f"{ours}.norm.weight", f"{theirs}.input_layernorm.weight")
    if symbol == "*":
        made.attention(f"{ours}.mixer", f"{theirs}.self_attn")
    else:
        (made.mamba2 if symbol == "M" else made.mamba)(f"{ours}.mixer", f"{theirs}.mamba")


# ---- the models; each gives whether heads are tied where the configuration is silent, and the settings ----


def _bamba(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    attention = _get(config, "attn_layer_indices", [])
    pattern = ""
    for index in range(_layers(config)):
        symbol, ours, theirs = "*" if index in attention else "M", f"{BACKBONE}.{2 * index}", f"model.layers.{index}"
        pattern += symbol + "-"
        _mixer(made, symbol, ours, theirs)
        made.take(f"{BACKBONE}.{2 * index + 1}.norm.weight", f"{theirs}.pre_ff_layernorm.weight")
        made.mlp(f"{BACKBONE}.{2 * index + 1}.mixer", f"{theirs}.feed_forward", gated=True)
    heads = _attention(config, 8)
    return False, {
        "pattern": pattern,
        **_mamba2(config),
        **heads,
        **_rotary(config, heads["head_dim"], 0.5),
        **_biased(config),
        **_gated_mlp(config, 14336),
        **_epsilon(config, 1e-5),
    }


def _jamba(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    experts = _get(config, "num_experts", 16)
    periods = [_get(config, f"{kind}_layer_period", default) for kind, default in (("attn", 8), ("expert", 2))]
    offsets = [_get(config, f"{kind}_layer_offset", default) for kind, default in (("attn", 4), ("expert", 1))]
    pattern = ""
    for index in range(_layers(config)):
        attends, routes = (index % period == offset for period, offset in zip(periods, offsets, strict=True))
        symbols = ("*" if attends else "m") + ("E" if routes and experts > 1 else "-")
        pattern += symbols
        ours, theirs = f"{BACKBONE}.{2 * index + 1}", f"model.layers.{index}"
        _mixer(made, symbols[0], f"{BACKBONE}.{2 * index}", theirs)
        made.take(f"{ours}.norm.weight", f"{theirs}.pre_ff_layernorm.weight")
        if symbols[1] == "E":
            made.take(f"{ours}.mixer.router.weight", f"{theirs}.feed_forward.router.weight")
            made.experts(f"{ours}.mixer", f"{theirs}.feed_forward.experts", experts, gated=True)
        else:
            made.mlp(f"{ours}.mixer", f"{theirs}.feed_forward", gated=True)
    rank = _get(config, "mamba_dt_rank", "auto")
    mlp = _gated_mlp(config, 14336)
    return False, {
        "pattern": pattern,
        "d_state": _get(config, "mamba_d_state", 16),
        "d_conv": _get(config, "mamba_d_conv", 4),
        "expand": _get(config, "mamba_expand", 2),
        "dt_rank": rank,
        "dt_norm": "weighted",
        "conv_bias": _get(config, "mamba_conv_bias", True),
        "bias": _get(config, "mamba_proj_bias", False),
        **_attention(config, 8),
        **mlp,
        "num_experts": experts,
        "experts_per_token": _get(config, "num_experts_per_tok", 2),
        "d_expert": mlp["d_mlp"],
        **_epsilon(config, 1e-6),
    }


def _zamba2(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    require(config, {"use_conv_bias": (True,)}, "hybrid")
    if config.get("layers_block_type") is None:
        # The published 54 layers, of which the configuration class is the source.
        pattern = "M" + 7 * "MMMMMS" + "MMMMS" + "MMMS" + "MM"
        if _layers(config, len(pattern)) != len(pattern):
            require(config, {"layers_block_type": ()}, "hybrid")
    else:
        pattern = _symbols(config, config["layers_block_type"])
    blocks = min(_get(config, "num_mem_blocks", 1), max(pattern.count("S"), 1))
    shared_layers = [index for index, symbol in enumerate(pattern) if symbol == "S"]
    for index, symbol in enumerate(pattern):
        ours, theirs = f"{BACKBONE}.{index}", f"model.layers.{index}"
        if symbol != "S":
            _mixer(made, symbol, ours, theirs)
            continue
        _mixer(made, "M", ours, f"{theirs}.mamba_decoder")
        made.take(f"{ours}.linear.weight", f"{theirs}.linear.weight")
        call = shared_layers.index(index)
        home = f"model.layers.{shared_layers[call % blocks]}.shared_transformer"
        _adapters(made, ours, home, call)
        if call < blocks:
            _shared_transformer(made, f"backbone.shared.{call}", home)
        else:
            made.repeats(f"{theirs}.shared_transformer.", f"{home}.")
    heads = _get(config, "num_attention_heads", 32)
    head_dim = 2 * config["hidden_size"] // heads
    inner = int(_get(config, "mamba_expand", 2) * config["hidden_size"])
    rotary = _rotary(config, head_dim) if _get(config, "use_mem_rope", False) else {}
    bias = _get(config, "add_bias_linear", False)
    return True, {
        "pattern": pattern,
        "d_inner": inner,
        "headdim": inner // _get(config, "n_mamba_heads", 8),
        "ngroups": _get(config, "mamba_ngroups", 1),
        "d_state": _get(config, "mamba_d_state", 64),
        "d_conv": _get(config, "mamba_d_conv", 4),
        "dt_limit": [_get(config, "time_step_min", 1e-3), None],
        "bias": bias,
        "mixer_norm_epsilon": 1e-5,  # whatever rms_norm_eps says
        **_attention(config, None),
        "head_dim": head_dim,
        "attention_scale": (head_dim / 2) ** -0.5,
        **rotary,
        **_gated_mlp(config, 4 * config["hidden_size"]),
        "mlp_activation": _activation(config, "hidden_act", "gelu"),
        "mlp_bias": bias,
        "shared_blocks": blocks,
        "adapter_rank": _get(config, "adapter_rank", 128),
        "attention_adapters": _get(config, "use_shared_attention_adapter", False),
        **_epsilon(config, 1e-5),
    }


def _shared_transformer(made: Rewriting, ours: str, theirs: str) -> None:
    made.take(f"{ours}.norm.weight", f"{theirs}.input_layernorm.weight")
    made.take(f"{ours}.norm2.weight", f"{theirs}.pre_ff_layernorm.weight")
    made.attention(f"{ours}.attention", f"{theirs}.self_attn")
    for part in LINEAR:
        made.take(f"{ours}.mlp.fc1.{part}", f"{theirs}.feed_forward.gate_up_proj.{part}", swapped)
    made.linear(f"{ours}.mlp.fc2", f"{theirs}.feed_forward.down_proj")


def _adapters(made: Rewriting, ours: str, home: str, call: int) -> None:
    """The transformer holds the adapters of all its calls; ours are in the layers that call it."""
    mlp = f"{home}.feed_forward.gate_up_proj_adapter_list.{call}"
    made.take(f"{ours}.mlp_adapter.down.weight", f"{mlp}.0.weight")
    made.take(f"{ours}.mlp_adapter.up.weight", f"{mlp}.1.weight", swapped)
    for number, letter in enumerate("qkv"):
        adapter = f"{home}.self_attn.linear_{letter}_adapter_list.{call}"
        made.take(f"{ours}.qkv_adapters.{number}.down.weight", f"{adapter}.0.weight")
        made.take(f"{ours}.qkv_adapters.{number}.up.weight", f"{adapter}.1.weight")


def _nemotron_h(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    require(config, {"mamba_hidden_act": ("silu",), "num_nextn_predict_layers": (0, None)}, "hybrid")
    pattern = config.get("hybrid_override_pattern")
    if pattern is None:
        types = _get(config, "layers_block_type", ["mamba", "moe", "attention", "mlp"])
        pattern = _symbols(config, types)
    experts = _get(config, "n_routed_experts", 8)
    for index, symbol in enumerate(pattern):
        ours, theirs = f"{BACKBONE}.{index}", f"model.layers.{index}"
        made.take(f"{ours}.norm.weight", f"{theirs}.norm.weight")
        ours, theirs = f"{ours}.mixer", f"{theirs}.mixer"
        if symbol == "M":
            made.mamba2(ours, theirs)
        elif symbol == "*":
            made.attention(ours, theirs)
        elif symbol == "-":
            made.mlp(ours, theirs, gated=False)
        else:
            made.take(f"{ours}.router.weight", f"{theirs}.gate.weight")
            made.take(f"{ours}.router.correction", f"{theirs}.gate.e_score_correction_bias")
            made.experts(ours, f"{theirs}.experts", experts, gated=False)
            made.mlp(f"{ours}.shared", f"{theirs}.shared_experts", gated=False)
            made.linear(f"{ours}.latent_in", f"{theirs}.fc1_latent_proj")
            made.linear(f"{ours}.latent_out", f"{theirs}.fc2_latent_proj")
    heads = _get(config, "mamba_num_heads", 128)
    defaults = {
        "d_state": 128,
        "headdim": 64,
        "ngroups": 8,
        "d_mlp": 21504,
        "num_experts": experts,
        "experts_per_token": 2,
        "d_expert": 7688,
        "d_shared_expert": 7688,
        "router_normalize": True,
    }
    found = {**defaults, **renamed(config, _NEMOTRON)}
    return False, {
        **found,
        "pattern": pattern,
        "d_inner": heads * found["headdim"],
        # The reference clamps steps to time_step_min in a sequence and not in a single step; models were trained
        # without that bound.
        "dt_limit": step_limit(config),
        "router_scores": "sigmoid",
        "mlp_activation": _activation(config, "mlp_hidden_act", "relu2"),
        **_attention(config, 8),
        "head_dim": _get(config, "head_dim", 128),
    }


def _granite(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    types = config.get("layer_types", config.get("layers_block_type"))
    symbols = "M" * _layers(config) if types is None else _symbols(config, types)
    experts = _get(config, "num_local_experts", 8)
    for index, symbol in enumerate(symbols):
        ours, theirs = f"{BACKBONE}.{2 * index + 1}", f"model.layers.{index}"
        _mixer(made, symbol, f"{BACKBONE}.{2 * index}", theirs)
        made.take(f"{ours}.norm.weight", f"{theirs}.post_attention_layernorm.weight")
        mixture = f"{theirs}.block_sparse_moe"
        made.take(f"{ours}.mixer.router.weight", f"{mixture}.router.layer.weight")
        made.take(f"{ours}.mixer.fc1", f"{mixture}.input_linear.weight", swapped)
        made.take(f"{ours}.mixer.fc2", f"{mixture}.output_linear.weight")
        mlp = f"{ours}.mixer.shared" if experts else f"{ours}.mixer"
        made.take(f"{mlp}.fc1.weight", f"{theirs}.shared_mlp.input_linear.weight", swapped)
        made.take(f"{mlp}.fc2.weight", f"{theirs}.shared_mlp.output_linear.weight")
    shared = _get(config, "shared_intermediate_size", 1024)
    heads = _attention(config, None)
    rotary = _rotary(config, heads["head_dim"]) if config.get("position_embedding_type") == "rope" else {}
    settings = {
        "pattern": "".join(symbol + ("E" if experts else "-") for symbol in symbols),
        **_mamba2(config),
        **heads,
        **rotary,
        **_biased(config),
        **_gated_mlp(config, 11008),
        "attention_scale": float(_get(config, "attention_multiplier", 1.0)),
        "embedding_multiplier": float(_get(config, "embedding_multiplier", 1.0)),
        "residual_multiplier": float(_get(config, "residual_multiplier", 1.0)),
        "logits_multiplier": 1.0 / _get(config, "logits_scaling", 1.0),
        **_epsilon(config, 1e-6),
    }
    hidden = settings["d_mlp"]
    settings["d_mlp"] = shared
    if experts:
        settings |= {
            "num_experts": experts,
            "experts_per_token": _get(config, "num_experts_per_tok", 2),
            "router_scores": "softmax of chosen",
            "d_expert": hidden,
            "d_shared_expert": shared,
        }
    return False, settings


def _falcon_h1(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    count = _layers(config)
    for index in range(count):
        ours, theirs = f"{BACKBONE}.{2 * index}", f"model.layers.{index}"
        made.take(f"{ours}.norm.weight", f"{theirs}.input_layernorm.weight")
        made.mamba2(f"{ours}.mixer.mamba", f"{theirs}.mamba")
        made.attention(f"{ours}.mixer.attention", f"{theirs}.self_attn")
        made.take(f"{BACKBONE}.{2 * index + 1}.norm.weight", f"{theirs}.pre_ff_layernorm.weight")
        made.mlp(f"{BACKBONE}.{2 * index + 1}.mixer", f"{theirs}.feed_forward", gated=True)
    heads = _attention(config, 8)
    branches = ("ssm_in", "ssm_out", "attention_in", "attention_out", "key", "embedding")
    # A null is no inner width of its own; the key's absence is the class's width.
    inner = {} if "mamba_d_ssm" in config else {"mamba_d_ssm": 1024}
    return False, {
        "pattern": "P-" * count,
        **_mamba2({**config, **inner}),
        "out_bias": _get(config, "projectors_bias", False),
        "rmsnorm": _get(config, "mamba_rms_norm", False),
        "norm_before_gate": _get(config, "mamba_norm_before_gate", True),
        **heads,
        **_rotary(config, heads["head_dim"]),
        **_biased(config),
        **_gated_mlp(config, 14336),
        **{f"{branch}_multiplier": float(_get(config, f"{branch}_multiplier", 1.0)) for branch in branches},
        "logits_multiplier": float(_get(config, "lm_head_multiplier", 1.0)),
        "ssm_multipliers": _get(config, "ssm_multipliers", [1.0] * 5),
        "mlp_multipliers": _get(config, "mlp_multipliers", [1.0] * 2),
        **_epsilon(config, 1e-5),
    }


def _falcon_mamba(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    count = _layers(config)
    for index in range(count):
        ours, theirs = f"{BACKBONE}.{index}", f"model.layers.{index}"
        made.take(f"{ours}.norm.weight", f"{theirs}.norm.weight")
        made.mamba(f"{ours}.mixer", f"{theirs}.mixer")
    return True, {
        "pattern": "m" * count,
        "d_state": _get(config, "state_size", 16),
        "d_conv": _get(config, "conv_kernel", 4),
        "expand": _get(config, "expand", 2),
        "dt_rank": _get(config, "time_step_rank", "auto"),
        "dt_norm": "plain",
        "mixer_norm_epsilon": _get(config, "mixer_rms_eps", 1e-6),
        "bias": _get(config, "use_bias", False),
        "conv_bias": _get(config, "use_conv_bias", True),
        "norm_epsilon": _get(config, "layer_norm_epsilon", 1e-5),
        "residual_in_fp32": _get(config, "residual_in_fp32", True),
    }


MODELS: dict[str, Callable[[Config, Rewriting], tuple[bool, Settings]]] = {
    "bamba": _bamba,
    "falcon_h1": _falcon_h1,
    "falcon_mamba": _falcon_mamba,
    "granitemoehybrid": _granite,
    "jamba": _jamba,
    "nemotron_h": _nemotron_h,
    "zamba2": _zamba2,
}

"""Import of transformers' hybrid models: for each `model_type` its settings and where its tensors go.

What a configuration leaves out is as transformers' own classes have it. Each model is one function, which reads the
configuration and renames the tensors layer by layer, because both follow the same pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, UpstreamConfig, config_where, renamed, require, require_sizes
from mambasdk_language.checkpoint import EMBEDDING, HF_EMBEDDING, step_limit, tied_head, vocabulary
from mambasdk_language.families.hybrid import fields
from mambasdk_language.families.hybrid.fields import Config, Settings
from mambasdk_language.families.hybrid.tensors import BACKBONE, LINEAR, Rewriting, swapped

_EMBEDDINGS = {"model.embed_tokens.weight", "model.embeddings.weight", HF_EMBEDDING}
_OWN_ACTIVATION = ("nemotron_h", "zamba2")
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
        "tie_embeddings": tied_head(_with(config, tie_word_embeddings=tied), weights, "tie_word_embeddings"),
    }
    return {**shared, **settings}, made.result()


def _with(config: Config, **values: Any) -> UpstreamConfig:
    return UpstreamConfig({**config, **values}, config_where(config))


# ---- the models; each gives whether heads are tied where the configuration is silent, and the settings ----


def _bamba(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    attention = fields.value_of(config, "attn_layer_indices", [])
    pattern = ""
    for index in range(fields.layers(config)):
        symbol, ours, theirs = "*" if index in attention else "M", f"{BACKBONE}.{2 * index}", f"model.layers.{index}"
        pattern += symbol + "-"
        fields.rename_mixer(made, symbol, ours, theirs)
        made.take(f"{BACKBONE}.{2 * index + 1}.norm.weight", f"{theirs}.pre_ff_layernorm.weight")
        made.mlp(f"{BACKBONE}.{2 * index + 1}.mixer", f"{theirs}.feed_forward", gated=True)
    heads = fields.attention(config, 8)
    return False, {
        "pattern": pattern,
        **fields.mamba2(config),
        **heads,
        **fields.rotary(config, heads["head_dim"], 0.5),
        **fields.biased(config),
        **fields.gated_mlp(config, 14336),
        **fields.epsilon(config, 1e-5),
    }


def _jamba(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    experts = fields.value_of(config, "num_experts", 16)
    places = [
        [fields.value_of(config, f"{kind}_layer_{what}", default) for what, default in (("period", p), ("offset", o))]
        for kind, p, o in (("attn", 8, 4), ("expert", 2, 1))
    ]
    pattern = ""
    for index in range(fields.layers(config)):
        attends, routes = (index % period == offset for period, offset in places)
        symbols = ("*" if attends else "m") + ("E" if routes and experts > 1 else "-")
        pattern += symbols
        ours, theirs = f"{BACKBONE}.{2 * index + 1}", f"model.layers.{index}"
        fields.rename_mixer(made, symbols[0], f"{BACKBONE}.{2 * index}", theirs)
        made.take(f"{ours}.norm.weight", f"{theirs}.pre_ff_layernorm.weight")
        if symbols[1] == "E":
            made.take(f"{ours}.mixer.router.weight", f"{theirs}.feed_forward.router.weight")
            made.experts(f"{ours}.mixer", f"{theirs}.feed_forward.experts", experts, gated=True)
        else:
            made.mlp(f"{ours}.mixer", f"{theirs}.feed_forward", gated=True)
    rank = fields.value_of(config, "mamba_dt_rank", "auto")
    mlp = fields.gated_mlp(config, 14336)
    return False, {
        "pattern": pattern,
        "d_state": fields.value_of(config, "mamba_d_state", 16),
        "d_conv": fields.value_of(config, "mamba_d_conv", 4),
        "expand": fields.value_of(config, "mamba_expand", 2),
        "dt_rank": rank,
        "dt_norm": "weighted",
        "conv_bias": fields.value_of(config, "mamba_conv_bias", True),
        "bias": fields.value_of(config, "mamba_proj_bias", False),
        **fields.attention(config, 8),
        **mlp,
        "num_experts": experts,
        "experts_per_token": fields.value_of(config, "num_experts_per_tok", 2),
        "d_expert": mlp["d_mlp"],
        **fields.epsilon(config, 1e-6),
    }


def _zamba2(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    require(config, {"use_conv_bias": (True,)}, "hybrid")
    if config.get("layers_block_type") is None:
        # The published 54 layers, of which the configuration class is the source.
        pattern = "M" + 7 * "MMMMMS" + "MMMMS" + "MMMS" + "MM"
        if fields.layers(config, len(pattern)) != len(pattern):
            require(config, {"layers_block_type": ()}, "hybrid")
    else:
        pattern = fields.symbols(config, config["layers_block_type"])
    blocks = min(fields.value_of(config, "num_mem_blocks", 1), max(pattern.count("S"), 1))
    shared_layers = [index for index, symbol in enumerate(pattern) if symbol == "S"]
    for index, symbol in enumerate(pattern):
        ours, theirs = f"{BACKBONE}.{index}", f"model.layers.{index}"
        if symbol != "S":
            fields.rename_mixer(made, symbol, ours, theirs)
            continue
        fields.rename_mixer(made, "M", ours, f"{theirs}.mamba_decoder")
        made.take(f"{ours}.linear.weight", f"{theirs}.linear.weight")
        call = shared_layers.index(index)
        home = f"model.layers.{shared_layers[call % blocks]}.shared_transformer"
        _adapters(made, ours, home, call)
        if call < blocks:
            _shared_transformer(made, f"backbone.shared.{call}", home)
        else:
            made.repeats(f"{theirs}.shared_transformer.", f"{home}.")
    heads = fields.value_of(config, "num_attention_heads", 32)
    head_dim = 2 * config["hidden_size"] // heads
    inner = int(fields.value_of(config, "mamba_expand", 2) * config["hidden_size"])
    rotary = fields.rotary(config, head_dim) if fields.value_of(config, "use_mem_rope", False) else {}
    bias = fields.value_of(config, "add_bias_linear", False)
    return True, {
        "pattern": pattern,
        "d_inner": inner,
        "headdim": inner // fields.value_of(config, "n_mamba_heads", 8),
        "ngroups": fields.value_of(config, "mamba_ngroups", 1),
        "d_state": fields.value_of(config, "mamba_d_state", 64),
        "d_conv": fields.value_of(config, "mamba_d_conv", 4),
        "dt_limit": [fields.value_of(config, "time_step_min", 1e-3), None],
        "bias": bias,
        "mixer_norm_epsilon": 1e-5,  # whatever rms_norm_eps says
        **fields.attention(config, None),
        "head_dim": head_dim,
        "attention_scale": (head_dim / 2) ** -0.5,
        **rotary,
        **fields.gated_mlp(config, 4 * config["hidden_size"]),
        "mlp_activation": fields.activation(config, "hidden_act", "gelu"),
        "mlp_bias": bias,
        "shared_blocks": blocks,
        "adapter_rank": fields.value_of(config, "adapter_rank", 128),
        "attention_adapters": fields.value_of(config, "use_shared_attention_adapter", False),
        **fields.epsilon(config, 1e-5),
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
        types = fields.value_of(config, "layers_block_type", ["mamba", "moe", "attention", "mlp"])
        pattern = fields.symbols(config, types)
    experts = fields.value_of(config, "n_routed_experts", 8)
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
    heads = fields.value_of(config, "mamba_num_heads", 128)
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
        "mlp_activation": fields.activation(config, "mlp_hidden_act", "relu2"),
        **fields.attention(config, 8),
        "head_dim": fields.value_of(config, "head_dim", 128),
    }


def _granite(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    types = config.get("layer_types", config.get("layers_block_type"))
    symbols = "M" * fields.layers(config) if types is None else fields.symbols(config, types)
    experts = fields.value_of(config, "num_local_experts", 8)
    for index, symbol in enumerate(symbols):
        ours, theirs = f"{BACKBONE}.{2 * index + 1}", f"model.layers.{index}"
        fields.rename_mixer(made, symbol, f"{BACKBONE}.{2 * index}", theirs)
        made.take(f"{ours}.norm.weight", f"{theirs}.post_attention_layernorm.weight")
        mixture = f"{theirs}.block_sparse_moe"
        made.take(f"{ours}.mixer.router.weight", f"{mixture}.router.layer.weight")
        made.take(f"{ours}.mixer.fc1", f"{mixture}.input_linear.weight", swapped)
        made.take(f"{ours}.mixer.fc2", f"{mixture}.output_linear.weight")
        mlp = f"{ours}.mixer.shared" if experts else f"{ours}.mixer"
        made.take(f"{mlp}.fc1.weight", f"{theirs}.shared_mlp.input_linear.weight", swapped)
        made.take(f"{mlp}.fc2.weight", f"{theirs}.shared_mlp.output_linear.weight")
    shared = fields.value_of(config, "shared_intermediate_size", 1024)
    heads = fields.attention(config, None)
    rotary = fields.rotary(config, heads["head_dim"]) if config.get("position_embedding_type") == "rope" else {}
    settings = {
        "pattern": "".join(symbol + ("E" if experts else "-") for symbol in symbols),
        **fields.mamba2(config),
        **heads,
        **rotary,
        **fields.biased(config),
        **fields.gated_mlp(config, 11008),
        "attention_scale": float(fields.value_of(config, "attention_multiplier", 1.0)),
        "embedding_multiplier": float(fields.value_of(config, "embedding_multiplier", 1.0)),
        "residual_multiplier": float(fields.value_of(config, "residual_multiplier", 1.0)),
        "logits_multiplier": 1.0 / fields.value_of(config, "logits_scaling", 1.0),
        **fields.epsilon(config, 1e-6),
    }
    hidden = settings["d_mlp"]
    settings["d_mlp"] = shared
    if experts:
        settings |= {
            "num_experts": experts,
            "experts_per_token": fields.value_of(config, "num_experts_per_tok", 2),
            "router_scores": "softmax of chosen",
            "d_expert": hidden,
            "d_shared_expert": shared,
        }
    return False, settings


def _falcon_h1(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    count = fields.layers(config)
    for index in range(count):
        ours, theirs = f"{BACKBONE}.{2 * index}", f"model.layers.{index}"
        made.take(f"{ours}.norm.weight", f"{theirs}.input_layernorm.weight")
        made.mamba2(f"{ours}.mixer.mamba", f"{theirs}.mamba")
        made.attention(f"{ours}.mixer.attention", f"{theirs}.self_attn")
        made.take(f"{BACKBONE}.{2 * index + 1}.norm.weight", f"{theirs}.pre_ff_layernorm.weight")
        made.mlp(f"{BACKBONE}.{2 * index + 1}.mixer", f"{theirs}.feed_forward", gated=True)
    heads = fields.attention(config, 8)
    branches = ("ssm_in", "ssm_out", "attention_in", "attention_out", "key", "embedding")
    # A null is no inner width of its own; the key's absence is the class's width.
    inner = {} if "mamba_d_ssm" in config else {"mamba_d_ssm": 1024}
    return False, {
        "pattern": "P-" * count,
        **fields.mamba2(_with(config, **inner)),
        "out_bias": fields.value_of(config, "projectors_bias", False),
        "rmsnorm": fields.value_of(config, "mamba_rms_norm", False),
        "norm_before_gate": fields.value_of(config, "mamba_norm_before_gate", True),
        **heads,
        **fields.rotary(config, heads["head_dim"]),
        **fields.biased(config),
        **fields.gated_mlp(config, 14336),
        **{f"{branch}_multiplier": float(fields.value_of(config, f"{branch}_multiplier", 1.0)) for branch in branches},
        "logits_multiplier": float(fields.value_of(config, "lm_head_multiplier", 1.0)),
        "ssm_multipliers": fields.value_of(config, "ssm_multipliers", [1.0] * 5),
        "mlp_multipliers": fields.value_of(config, "mlp_multipliers", [1.0] * 2),
        **fields.epsilon(config, 1e-5),
    }


def _falcon_mamba(config: Config, made: Rewriting) -> tuple[bool, Settings]:
    count = fields.layers(config)
    for index in range(count):
        ours, theirs = f"{BACKBONE}.{index}", f"model.layers.{index}"
        made.take(f"{ours}.norm.weight", f"{theirs}.norm.weight")
        made.mamba(f"{ours}.mixer", f"{theirs}.mixer")
    return True, {
        "pattern": "m" * count,
        "d_state": fields.value_of(config, "state_size", 16),
        "d_conv": fields.value_of(config, "conv_kernel", 4),
        "expand": fields.value_of(config, "expand", 2),
        "dt_rank": fields.value_of(config, "time_step_rank", "auto"),
        "dt_norm": "plain",
        "mixer_norm_epsilon": fields.value_of(config, "mixer_rms_eps", 1e-6),
        "bias": fields.value_of(config, "use_bias", False),
        "conv_bias": fields.value_of(config, "use_conv_bias", True),
        "norm_epsilon": fields.value_of(config, "layer_norm_epsilon", 1e-5),
        "residual_in_fp32": fields.value_of(config, "residual_in_fp32", True),
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

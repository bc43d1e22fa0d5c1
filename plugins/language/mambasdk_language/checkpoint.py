"""Reading upstream configurations: both spellings of a field, sizes that must agree, and what we cannot build.

Sizes are never guessed: a configuration names its width, depth and vocabulary, and the checkpoint's matrices have
exactly those sizes, or the import is refused with the numbers of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, UpstreamConfig, config_where, renamed, require_known, require_sizes

EMBEDDING = "backbone.embedding.weight"
HF_EMBEDDING = "backbone.embeddings.weight"
HEAD = "lm_head.weight"


def is_huggingface(config: Mapping[str, Any]) -> bool:
    """Whether the keys are those of a Hugging Face `config.json` and not of the original repository."""
    return any(key in config for key in ("hidden_size", "num_hidden_layers", "model_type", "architectures"))


def vocabulary(
    config: Mapping[str, Any], weights: Checkpoint, multiple: int, embedding: str | None = None
) -> dict[str, int]:
    """vocab_size and pad_vocab_size_multiple of a configuration, checked against the rows of the embedding.

    multiple: what the format pads to where the configuration says nothing. embedding: the matrix's name where it is
    none of ours. The vocabulary is the configuration's own, never a smaller one. Rows that are neither vocab_size nor
    its padding are refused.
    """
    size = config["vocab_size"]
    if config.get("pad_vocab_size_multiple") is not None:
        require_sizes(config, ("pad_vocab_size_multiple",))
        multiple = config["pad_vocab_size_multiple"]
    padded = -(-size // multiple) * multiple
    name = embedding or (HF_EMBEDDING if HF_EMBEDDING in weights else EMBEDDING)
    rows = weights[name].shape[0] if name in weights else padded
    if rows == padded:
        return {"vocab_size": size, "pad_vocab_size_multiple": multiple}
    if rows == size:
        return {"vocab_size": size, "pad_vocab_size_multiple": 1}
    raise CheckpointError(
        f"vocab_size is {size}, but {name} has {rows} rows",
        where=config_where(config),
        expected=f"{size} rows" + (f", or {padded} padded to a multiple of {multiple}" if padded != size else ""),
        way_out=f"if all {rows} rows are tokens, set vocab_size to {rows}; "
        "if the rest is padding, set pad_vocab_size_multiple to what it was padded to",
    )


def tied_head(config: Mapping[str, Any], weights: Checkpoint, key: str) -> bool:
    """Whether the head is the embedding's matrix: what `key` says, else what the checkpoint shows.

    A checkpoint without a head is tied; a configuration that says otherwise is refused, and so is one that ties a head
    which differs from the embedding.
    """
    says = config.get(key)
    if says is not None and not isinstance(says, bool):
        raise CheckpointError(f"bad {key}", where=config_where(config), expected="true or false", got=repr(says)[:80])
    if HEAD not in weights:
        if says is False:
            raise CheckpointError(
                f"{key} is false, but the checkpoint has no {HEAD}",
                where=config_where(config),
                way_out=f"set {key} to true if the head is the embedding's matrix",
            )
        return True
    name = HF_EMBEDDING if HF_EMBEDDING in weights else EMBEDDING
    if says is False or name not in weights:
        return bool(says)
    head, embedding = weights[HEAD], weights[name]
    same = head.shape == embedding.shape and torch.equal(head, embedding)
    if says and not same:
        raise CheckpointError(
            f"{key} is true, but {HEAD} and {name} differ",
            where=config_where(config),
            way_out=f"set {key} to false if the checkpoint's head is the right one, or take {HEAD} out of it",
        )
    return same


def original_names(weights: Checkpoint) -> Checkpoint:
    """The tensors under the names of the original checkpoints, which are ours."""
    return weights.rename({HF_EMBEDDING: EMBEDDING})


_ORIGINAL = {
    name: name
    for name in (
        "d_model",
        "n_layer",
        "rms_norm",
        "norm_epsilon",
        "residual_in_fp32",
        "d_intermediate",
    )
}
# `ssm_cfg` of an original configuration: arguments of the mixer that every one of them has.
_ORIGINAL_MIXER = ("d_state", "d_conv", "expand", "dt_min", "dt_max", "dt_init_floor", "bias", "conv_bias")
# What further keys it has for each of the mixers.
ORIGINAL_MAMBA = ("dt_rank", "dt_init", "dt_scale")
ORIGINAL_MAMBA2 = (
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
# Keys of Hugging Face configurations that every one of them has.
HUGGINGFACE = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layer",
    "n_layer": "n_layer",
    "state_size": "d_state",
    "conv_kernel": "d_conv",
    "expand": "expand",
    "time_step_min": "dt_min",
    "time_step_max": "dt_max",
    "time_step_floor": "dt_init_floor",
    "use_bias": "bias",
    "use_conv_bias": "conv_bias",
    "layer_norm_epsilon": "norm_epsilon",
    "residual_in_fp32": "residual_in_fp32",
}
_ORIGINAL_PADDING = 8  # of a configuration without pad_vocab_size_multiple


def huggingface_settings(config: Mapping[str, Any], weights: Checkpoint, names: Mapping[str, str]) -> dict[str, Any]:
    """Overrides from a Hugging Face configuration; names: theirs -> ours, those of HUGGINGFACE among them.

    Its vocabulary is not padded, unless it has a `pad_vocab_size_multiple` of its own.
    """
    require_sizes(config, ("hidden_size",), ("num_hidden_layers", "n_layer"), ("vocab_size",))
    return {
        **renamed(config, names),
        **vocabulary(config, weights, 1),
        "tie_embeddings": tied_head(config, weights, "tie_word_embeddings"),
    }


def original_layer(config: Mapping[str, Any]) -> str:
    """The mixer of an original configuration: "Mamba1", "Mamba2"."""
    return str(_ssm(config).get("layer", "Mamba1"))


def _ssm(config: Mapping[str, Any]) -> Mapping[str, Any]:
    ssm = config.get("ssm_cfg") or {}
    if not isinstance(ssm, Mapping):
        raise CheckpointError("bad ssm_cfg", where=config_where(config), expected="an object", got=repr(ssm)[:80])
    return ssm


def original_settings(
    config: Mapping[str, Any],
    weights: Checkpoint,
    mixer: tuple[str, ...],
    layer: str,
    family: str,
    *,
    attention: bool = False,
) -> dict[str, Any]:
    """Overrides from an original configuration; `mixer` names further keys of `ssm_cfg`, `layer` its mixer.

    attention: whether the family has layers of it.
    """
    if config.get("attn_layer_idx") and not attention:
        raise CheckpointError(
            f"attn_layer_idx = {config['attn_layer_idx']!r} is no model of family {family}",
            where=config_where(config),
            way_out="import it as family hybrid",
        )
    ssm = dict(_ssm(config))
    found = ssm.pop("layer", "Mamba1")
    if found != layer:
        raise CheckpointError(
            f"the layers are {found}",
            where=config_where(config),
            expected=layer,
            way_out="import it as family " + {"Mamba1": "mamba"}.get(found, str(found).lower()),
        )
    require_sizes(config, ("d_model",), ("n_layer",), ("vocab_size",))
    for key in ("chunk_size", "use_fast_path", "use_mem_eff_path"):  # choices of kernels
        ssm.pop(key, None)
    known = (*_ORIGINAL_MIXER, *mixer)
    require_known(UpstreamConfig(ssm, f"{config_where(config)}: ssm_cfg"), known)
    return {
        **renamed(config, _ORIGINAL),
        **renamed(ssm, {name: name for name in known}),
        **vocabulary(config, weights, _ORIGINAL_PADDING),
        "tie_embeddings": tied_head(config, weights, "tie_embeddings"),
    }


def step_limit(config: Mapping[str, Any], key: str = "time_step_limit") -> list[float] | None:
    """The two bounds of the step sizes; transformers 5 writes infinity as {"__float__": "Infinity"}."""
    limit = config.get(key)
    if limit is None:
        return None
    try:
        low, high = (float(bound["__float__"] if isinstance(bound, Mapping) else bound) for bound in limit)
    except (TypeError, ValueError, KeyError):
        raise CheckpointError(
            f"bad {key}", where=config_where(config), expected="two numbers", got=repr(limit)[:80]
        ) from None
    return [low, high]

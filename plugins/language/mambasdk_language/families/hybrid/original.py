"""Import of the format of state-spaces/mamba: Mamba or Mamba-2 layers, attention where `attn_layer_idx` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, UpstreamConfig, config_where, renamed, require_known
from mambasdk_language.checkpoint import ORIGINAL_MAMBA, ORIGINAL_MAMBA2, original_layer, original_settings
from mambasdk_language.families.hybrid.tensors import BACKBONE, LINEAR, Rewriting

_ATTENTION = {
    "num_heads": "num_heads",
    "num_heads_kv": "num_kv_heads",
    "head_dim": "head_dim",
    "qkv_proj_bias": "attention_bias",
    "out_proj_bias": "attention_out_bias",
    "softmax_scale": "attention_scale",
    "d_conv": "attention_conv",
    "rotary_emb_dim": "rotary_dim",
    "rotary_emb_base": "rotary_base",
    "rotary_emb_interleaved": "rotary_interleaved",
}
_ATTENTION_MULTIPLE = 256  # to which mlp_dim is rounded
_MLP_MULTIPLE = 128  # to which d_intermediate is rounded


def import_original(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Overrides and tensors; each block is one layer, or two where it has an MLP."""
    layer = original_layer(config)
    mixer, symbol = (ORIGINAL_MAMBA2, "M") if layer == "Mamba2" else (ORIGINAL_MAMBA, "m")
    settings = original_settings(config, weights, mixer, layer, "hybrid", attention=True)
    count, hidden = settings.pop("n_layer"), settings.pop("d_intermediate", 0)
    attention = config.get("attn_layer_idx") or []
    if not all(isinstance(index, int) and 0 <= index < count for index in attention):
        raise CheckpointError(
            "bad attn_layer_idx",
            where=config_where(config),
            expected=f"numbers below {count}",
            got=repr(attention)[:80],
        )
    blocks = ["*" if index in attention else symbol for index in range(count)]
    settings = {**_defaults(layer), **settings, "pattern": "".join(block + "-" * bool(hidden) for block in blocks)}
    if attention:
        settings |= _attention_settings(config)
    if hidden:
        size = -(-hidden // _MLP_MULTIPLE) * _MLP_MULTIPLE
        settings |= {"d_mlp": size, "mlp_gated": True, "mlp_activation": "silu"}
    return settings, _tensors(weights, count, bool(hidden))


def _defaults(layer: str) -> dict[str, Any]:
    """What the mixers of an original configuration have where it says nothing, and ours have otherwise."""
    return {"ngroups": 1, "d_state": 128} if layer == "Mamba2" else {"d_state": 16}


def _attention_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(config.get("attn_cfg") or {})
    where = f"{config_where(config)}: attn_cfg"
    if given.pop("causal", False) is not True:
        raise CheckpointError("the attention is not causal", where=where, expected="causal = true")
    hidden = given.pop("mlp_dim", 0)
    require_known(UpstreamConfig(given, where), list(_ATTENTION))
    found: dict[str, Any] = {"attention_bias": True, "attention_out_bias": True}  # as where the keys are absent
    found |= renamed(given, _ATTENTION)
    return {**found, "attention_mlp": -(-hidden // _ATTENTION_MULTIPLE) * _ATTENTION_MULTIPLE // 2}


def _tensors(weights: Checkpoint, count: int, mlp: bool) -> Checkpoint:
    if not mlp:
        return weights
    made = Rewriting(weights)
    names = list(weights)
    for index in range(count):
        for name in [name for name in names if name.startswith(f"{BACKBONE}.{index}.")]:
            part = name.removeprefix(f"{BACKBONE}.{index}.")
            if part.startswith(("norm.", "mixer.")):
                made.take(f"{BACKBONE}.{2 * index}.{part}", name)
        for part in LINEAR:
            made.take(f"{BACKBONE}.{2 * index + 1}.norm.{part}", f"{BACKBONE}.{index}.norm2.{part}")
        for layer in ("fc1", "fc2"):
            made.linear(f"{BACKBONE}.{2 * index + 1}.mixer.{layer}", f"{BACKBONE}.{index}.mlp.{layer}")
    return made.result()

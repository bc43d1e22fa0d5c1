"""Import of Megatron-LM checkpoints (arXiv 2406.07887), in one file or in tensor-parallel shards.

The configuration is a `config.json` with the names of Megatron's arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import RANK_PREFIX, Checkpoint, config_where, renamed, require, require_sizes
from mambasdk_language.checkpoint import EMBEDDING, HEAD
from mambasdk_language.families.hybrid.pattern import parse
from mambasdk_language.families.hybrid.tensors import BACKBONE, LINEAR, Rewriting

_EMBEDDING = "embedding.word_embeddings.weight"
_LAYERS = "decoder.layers"
# Arguments of Megatron-LM, in their several spellings -> ours.
_SETTINGS = {
    "hidden_size": "d_model",
    "hybrid_override_pattern": "pattern",
    "pattern": "pattern",
    "vocab_size": "vocab_size",
    "num_attention_heads": "num_heads",
    "num_query_groups": "num_kv_heads",
    "kv_channels": "head_dim",
    "ffn_hidden_size": "d_mlp",
    "mamba_state_dim": "d_state",
    "mamba_head_dim": "headdim",
    "mamba_num_groups": "ngroups",
    "d_conv": "d_conv",
    "norm_epsilon": "norm_epsilon",
    "layernorm_epsilon": "norm_epsilon",
    "rmsnorm_eps": "norm_epsilon",
    "rotary_base": "rotary_base",
}
_ACTIVATIONS = {"gelu": "gelu", "gelu (erf)": "gelu", "squared_relu": "squared_relu"}
# Along which dim a tensor is cut; those of the mixer whose rows are of several kinds are joined apart.
_COLUMNS = ("out_proj.weight", "linear_proj.weight", "linear_fc2.weight")
_WHOLE = ("norm.weight", "norm.bias", "layer_norm_weight", "layer_norm_bias")
_MIXER_NORM = "mixer.norm.weight"


def is_megatron(weights: Checkpoint) -> bool:
    """Whether the names are Megatron's, of one rank or of several."""
    return any(name.endswith(_EMBEDDING) for name in weights)


def import_megatron(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Overrides and tensors."""
    settings = _settings(config)
    sizes = _Sizes(settings)
    made = Rewriting(_joined(weights, sizes))
    made.drop("_extra_state")
    made.take(EMBEDDING, _EMBEDDING)
    made.take(HEAD, "output_layer.weight")
    for part in LINEAR:
        made.take(f"backbone.norm_f.{part}", f"decoder.final_norm.{part}")
    for index, symbol in enumerate(settings["pattern"]):
        _layer(made, symbol, f"{BACKBONE}.{index}", f"{_LAYERS}.{index}", sizes)
    settings["tie_embeddings"] = HEAD not in made.names()
    return settings, made.result()


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    require_sizes(config, ("hidden_size",), ("num_attention_heads",), ("ffn_hidden_size",))
    require(config, {"swiglu": (False,), "normalization": ("RMSNorm",)}, "hybrid")
    found = renamed(config, _SETTINGS)
    padded = config.get("padded_vocab_size")
    if padded is not None:
        found.setdefault("vocab_size", padded)
        found["pad_vocab_size_multiple"] = padded if padded > found["vocab_size"] else 1
    for key in ("pattern", "vocab_size"):
        if key not in found:
            raise CheckpointError(
                f"no {key}",
                where=config_where(config),
                expected=" or ".join(theirs for theirs, ours in _SETTINGS.items() if ours == key),
            )
    found["pattern"] = parse(found["pattern"])
    activation = config.get("activation") or ("squared_relu" if config.get("squared_relu") else "gelu")
    if activation not in _ACTIVATIONS:
        raise CheckpointError(
            "bad activation", where=config_where(config), expected=" or ".join(_ACTIVATIONS), got=repr(activation)
        )
    heads = found["num_heads"]
    found.setdefault("num_kv_heads", heads)
    found.setdefault("head_dim", found["d_model"] // heads)
    found["mlp_activation"] = _ACTIVATIONS[activation]
    if config.get("position_embedding_type", config.get("position_embedding", "none")) == "rope":
        found["rotary_dim"] = int(found["head_dim"] * config.get("rotary_percent", 1.0))
    inner = config.get("mamba_num_heads")
    if inner is not None:
        found["d_inner"] = inner * found.get("headdim", 64)
        if found["d_inner"] == 2 * found["d_model"]:
            del found["d_inner"]  # the usual width: one configuration has one spelling
    return found


class _Sizes:
    """Extents of the tensors whose rows are of several kinds."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.inner = settings.get("d_inner") or 2 * settings["d_model"]
        self.states = settings.get("ngroups", 8) * settings.get("d_state", 128)
        self.heads = self.inner // settings.get("headdim", 64)
        self.queries = settings["num_heads"] // settings["num_kv_heads"]
        self.groups, self.head_dim = settings["num_kv_heads"], settings["head_dim"]

    @property
    def xBC(self) -> list[int]:
        """Rows of the convolution."""
        return [self.inner, self.states, self.states]

    @property
    def projected(self) -> list[int]:
        """Rows of in_proj: z, x, B, C, dt."""
        return [self.inner, *self.xBC, self.heads]

    def ungrouped(self, qkv: Tensor) -> Tensor:
        """Rows [group][its query heads, k, v] as rows [q, k, v]."""
        grouped = qkv.unflatten(0, (self.groups, self.queries + 2, self.head_dim))
        q, k, v = grouped.split([self.queries, 1, 1], dim=1)
        return torch.cat([part.flatten(0, 2) for part in (q, k, v)])


def _layer(made: Rewriting, symbol: str, ours: str, theirs: str, sizes: _Sizes) -> None:
    if symbol in "Mm":
        (made.mamba2 if symbol == "M" else made.mamba)(f"{ours}.mixer", f"{theirs}.mixer")
        for part in LINEAR:
            made.take(f"{ours}.norm.{part}", f"{theirs}.norm.{part}")
        made.take(f"{ours}.norm.weight", f"{theirs}.mixer.in_proj.layer_norm_weight")  # of newer versions
        return
    first = "self_attention.linear_qkv" if symbol == "*" else "mlp.linear_fc1"
    for part in LINEAR:
        made.take(f"{ours}.norm.{part}", f"{theirs}.{first}.layer_norm_{part}")
    if symbol == "*":
        made.take(f"{ours}.mixer.in_proj.weight", f"{theirs}.{first}.weight", sizes.ungrouped)
        made.take(f"{ours}.mixer.out_proj.weight", f"{theirs}.self_attention.linear_proj.weight")
    elif symbol == "-":
        made.linear(f"{ours}.mixer.fc1", f"{theirs}.{first}")
        made.linear(f"{ours}.mixer.fc2", f"{theirs}.mlp.linear_fc2")


# ---- tensor-parallel shards ----


def _joined(weights: Checkpoint, sizes: _Sizes) -> Checkpoint:
    """The shards of all ranks as one checkpoint; what is whole in each must be equal."""
    ranks: dict[int, dict[str, str]] = {}
    for name in weights:
        if name.startswith(RANK_PREFIX):
            rank, _, rest = name.removeprefix(RANK_PREFIX).partition(".")
            ranks.setdefault(int(rank), {})[rest] = name
    if not ranks:
        return weights
    if sorted(ranks) != list(range(len(ranks))):
        raise CheckpointError("shards are missing", where=weights.where, got=f"ranks {sorted(ranks)}")
    held = [set(names) for names in ranks.values()]
    if differing := held[0].union(*held) - held[0].intersection(*held):
        raise CheckpointError(
            f"not every rank has {', '.join(sorted(differing)[:4])}",
            where=weights.where,
            way_out="give the shards of tensor parallelism alone, without pipeline stages",
        )
    sources: dict[str, Callable[[], Tensor]] = {}
    for name in ranks[0]:
        if name.endswith("_extra_state"):
            continue
        parts = [ranks[rank][name] for rank in range(len(ranks))]
        sources[name] = partial(_join, weights, name, parts, sizes)
    return weights.remade(sources)


def _join(weights: Checkpoint, name: str, parts: Sequence[str], sizes: _Sizes) -> Tensor:
    shards = [weights[part] for part in parts]
    if name.endswith(_WHOLE) and not name.endswith(_MIXER_NORM):
        if not all(torch.equal(shard, shards[0]) for shard in shards):
            raise CheckpointError(f"{name} differs from rank to rank", where=weights.where)
        return shards[0]
    if name.endswith(_COLUMNS):
        return torch.cat(shards, 1)
    if name.endswith("mixer.in_proj.weight"):
        return _regrouped(shards, sizes.projected, name, weights.where)
    if ".mixer.conv1d" in name:
        return _regrouped(shards, sizes.xBC, name, weights.where)
    return torch.cat(shards)


def _regrouped(shards: Sequence[Tensor], rows: Sequence[int], name: str, where: str) -> Tensor:
    """Each shard holds its share of every kind of row, one kind below the other."""
    count = len(shards)
    shares = [size // count for size in rows]
    if any(size % count for size in rows) or any(shard.shape[0] != sum(shares) for shard in shards):
        raise CheckpointError(
            f"{name} has {[shard.shape[0] for shard in shards]} rows",
            where=where,
            expected=f"{sum(shares)} of {sum(rows)} in each of {count} shards",
        )
    kinds = zip(*(shard.split(shares) for shard in shards), strict=True)
    return torch.cat([torch.cat(list(kind)) for kind in kinds])

"""Reading upstream configurations: both spellings of a field, and fields that say what we cannot build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint

# Hugging Face configurations hold the padded vocabulary. These two are paddings (to 8 and to 16) of the GPT-NeoX-20B
# vocabulary that all published state-spaces models share.
_GPT_NEOX_VOCAB = 50277
_PADDED_GPT_NEOX = (50280, 50288)
_MULTIPLES = (8, 16, 32, 64, 128, 256)

EMBEDDING = "backbone.embedding.weight"
HF_EMBEDDING = "backbone.embeddings.weight"


def is_huggingface(config: Mapping[str, Any]) -> bool:
    """Whether the keys are those of a Hugging Face `config.json` and not of the original repository."""
    return "hidden_size" in config or "num_hidden_layers" in config or "model_type" in config


def renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The entries of `config` that `names` (theirs -> ours) knows, under our names; None counts as absent."""
    found: dict[str, Any] = {}
    for theirs, ours in names.items():
        value = config.get(theirs)
        if value is None:
            continue
        if found.setdefault(ours, value) != value:
            raise CheckpointError(f"{theirs} = {value} and an earlier key say different things", where="config.json")
    return found


def require(config: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]], family: str) -> None:
    """Refuse a configuration that sets one of the keys to something else than these values."""
    for key, values in allowed.items():
        if key in config and config[key] not in values:
            raise CheckpointError(
                f"{key} = {config[key]!r} is not a {family} model",
                where="config.json",
                expected=" or ".join(map(repr, values)),
            )


def vocabulary(vocab_size: int, weights: Checkpoint) -> dict[str, int]:
    """vocab_size and pad_vocab_size_multiple, so that they give the embedding rows that are in the checkpoint."""
    name = HF_EMBEDDING if HF_EMBEDDING in weights else EMBEDDING
    rows = weights[name].shape[0] if name in weights else vocab_size
    if vocab_size in _PADDED_GPT_NEOX and rows == vocab_size:
        vocab_size = _GPT_NEOX_VOCAB
    for multiple in (1, *_MULTIPLES):
        if -(-vocab_size // multiple) * multiple == rows:
            return {"vocab_size": vocab_size, "pad_vocab_size_multiple": multiple}
    raise CheckpointError(
        f"{name} has {rows} rows, which is no padding of vocab_size {vocab_size}",
        where=weights.where,
        way_out="correct vocab_size in the configuration",
    )


def original_names(weights: Checkpoint) -> Checkpoint:
    """The tensors under the names of the original checkpoints, which are ours."""
    return weights.rename({HF_EMBEDDING: EMBEDDING})

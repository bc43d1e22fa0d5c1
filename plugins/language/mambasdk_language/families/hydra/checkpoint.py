"""Import of checkpoints of goombalab/hydra: masked language models, and classifiers fine-tuned from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, config_where, renamed, require, require_sizes
from mambasdk_language.checkpoint import vocabulary

_WRAPPER = "model."  # what the published training puts in front of every name
_WORDS = "bert.embeddings.word_embeddings.weight"
_POSITIONS = "bert.embeddings.position_embeddings.weight"
_DECODER = "cls.predictions.decoder.weight"
_CLASSIFIER = "classifier.weight"
_NAMES = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layer",
    "type_vocab_size": "type_vocab_size",
    "d_state": "d_state",
    "d_conv": "d_conv",
    "expand": "expand",
    "headdim": "headdim",
    "ngroups": "ngroups",
    "bias": "bias",
    "conv_bias": "conv_bias",
    "learnable_init_states": "learnable_init_states",
    "hidden_dropout_prob": "dropout",
    "initializer_range": "initializer_range",
    "is_prenorm": "prenorm",
}


def import_hydra(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names. The task is what stands on the encoder: `classifier`, else `cls.predictions`.

    A classifier of one label is a regression. The decoder must be the word embedding, as upstream ties them.
    """
    weights = weights.part(_WRAPPER)
    require_sizes(config, ("hidden_size",), ("num_hidden_layers",), ("vocab_size",))
    require(config, {"hidden_act": ("gelu",), "model_type": ("bert",)}, "hydra")
    if _WORDS not in weights:
        raise CheckpointError(f"no {_WORDS}", where=config_where(config), expected="a checkpoint of goombalab/hydra")
    settings = {**renamed(config, _NAMES), **_vocabulary(config, weights), **_task(config, weights)}
    if _POSITIONS in weights:
        settings["max_positions"] = weights[_POSITIONS].shape[0]
    if _DECODER in weights and not torch.equal(weights[_DECODER], weights[_WORDS]):
        raise CheckpointError(f"{_DECODER} is not the word embedding", where=config_where(config))
    dropped = {_DECODER, "bert.embeddings.position_ids"}
    return settings, weights.rename(lambda name: None if name in dropped else name)


def _vocabulary(config: Mapping[str, Any], weights: Checkpoint) -> dict[str, Any]:
    """As `vocabulary` has it, with upstream's padding to a multiple of 8 where that is what the rows show."""
    size, rows = config["vocab_size"], weights[_WORDS].shape[0]
    multiple = 8 if rows == -(-size // 8) * 8 else 1
    return vocabulary(config, weights, multiple, _WORDS)


def _task(config: Mapping[str, Any], weights: Checkpoint) -> dict[str, Any]:
    if _CLASSIFIER in weights:
        labels = weights[_CLASSIFIER].shape[0]
        kind = "regression" if labels == 1 or config.get("problem_type") == "regression" else "classification"
        return {"task": kind, "num_labels": labels}
    if "cls.predictions.transform.dense.weight" not in weights:
        raise CheckpointError(
            "an encoder alone", where=config_where(config), expected="cls.predictions (masked tokens) or classifier"
        )
    return {"task": "masked_lm"}

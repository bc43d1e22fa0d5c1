"""Feature vectors of raw utterances by models that `transformers` has on this machine. Optional: nothing else needs it.

Nothing is downloaded. A vector is the mean of a model's last hidden states over what the utterance has of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError, require_module, require_torch


def text(utterances: Sequence[str], model: str | os.PathLike[str], *, batch: int = 16) -> NDArray[np.float32]:
    """(L, width) float32 of texts, by the model and tokenizer in the folder or local cache entry `model`.

    The published features are of RoBERTa-large (1024). Raises InvalidArgumentError where the model is not here.
    """
    transformers, network = _network(model)
    tokenizer = _local(transformers.AutoTokenizer.from_pretrained, model)

    def prepared(part: Sequence[Any]) -> dict[str, Any]:
        return dict(tokenizer(list(part), padding=True, truncation=True, return_tensors="pt"))

    return _vectors(network, utterances, prepared, batch)


def audio(utterances: Sequence[NDArray[np.float32]], rate: int, model: str | os.PathLike[str]) -> NDArray[np.float32]:
    """(L, width) float32 of mono samples at `rate` Hz, by a local model of waveforms such as wav2vec 2.0."""
    transformers, network = _network(model)
    extractor = _local(transformers.AutoFeatureExtractor.from_pretrained, model)

    def prepared(part: Sequence[Any]) -> dict[str, Any]:
        return dict(extractor(list(part), sampling_rate=rate, return_tensors="pt"))

    return _vectors(network, utterances, prepared, 1)  # lengths differ, and not every extractor has a mask


def faces(crops: Sequence[Any], model: str | os.PathLike[str], *, batch: int = 16) -> NDArray[np.float32]:
    """(L, width) float32 of one face crop of each utterance, images as the model's processor takes them."""
    transformers, network = _network(model)
    processor = _local(transformers.AutoImageProcessor.from_pretrained, model)

    def prepared(part: Sequence[Any]) -> dict[str, Any]:
        return dict(processor(list(part), return_tensors="pt"))

    return _vectors(network, crops, prepared, batch)


def _network(model: str | os.PathLike[str]) -> tuple[Any, Any]:
    require_torch("features of raw utterances")
    require_module("transformers", "features of raw utterances", "pip install transformers")
    import transformers

    return transformers, _local(transformers.AutoModel.from_pretrained, model).eval()


def _local(load: Callable[..., Any], model: str | os.PathLike[str]) -> Any:
    try:
        return load(str(model), local_files_only=True)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(
            f"no model {str(model)!r} on this machine: {str(error).splitlines()[0]}",
            where="features",
            expected="a folder of transformers, or a model of its local cache",
            way_out="fetch it once with `hf download`, or give features of your own",
        ) from error


def _vectors(
    network: Any, items: Sequence[Any], prepared: Callable[[Sequence[Any]], dict[str, Any]], batch: int
) -> NDArray[np.float32]:
    import torch

    made = []
    with torch.no_grad():
        for start in range(0, len(items), batch):
            given = prepared(items[start : start + batch])
            hidden = network(**given).last_hidden_state.float()
            hidden = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden  # maps (B, C, H, W)
            mask = given.get("attention_mask")
            if mask is None or mask.shape != hidden.shape[:2]:
                mask = torch.ones(hidden.shape[:2])
            weight = mask.to(hidden).unsqueeze(-1)
            made.append((hidden * weight).sum(1) / weight.sum(1).clamp(min=1))
    if not made:
        return np.zeros((0, int(getattr(network.config, "hidden_size", 0))), np.float32)
    found: NDArray[np.float32] = torch.cat(made).numpy()
    return found

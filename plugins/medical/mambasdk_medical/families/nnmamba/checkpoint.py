"""nnMamba checkpoints: sizes are read off the tensors, and the second name of a shared layer is dropped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, layer_count, require_known, require_tensors

_KNOWN = ("patch_size", "relu_logits")
_ALIAS = re.compile(r"layer\d+\.(\d+)\.mamba_layer\.")
_STEM = "in_conv.0.weight"


def import_nnmamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a trainer's file under the names of this family.

    config: patch_size and relu_logits where they are not the defaults. Files of the authors' code name a stage's Mamba
    layer once for each block that shares it; one of the names is kept.
    """
    require_known(config, _KNOWN, "give patch_size, or {}")
    for name in weights:
        if name.endswith(f".{_STEM}"):
            weights = weights.part(name.removesuffix(_STEM))
            break
    require_tensors(weights, [_STEM, "layer1.1.mamba_layer.mamba.A_log"], "nnMamba")
    channels, in_channels = weights[_STEM].shape[:2]
    task = "segmentation" if "conv8.0.weight" in weights else "classification"
    last = "conv8.0.weight" if task == "segmentation" else "mlp.3.weight"
    require_tensors(weights, [last], "nnMamba")
    settings = {
        "task": task,
        "in_channels": in_channels,
        "num_classes": weights[last].shape[0],
        "channels": channels,
        "blocks": layer_count(weights, "layer1."),
        "d_state": weights["layer1.1.mamba_layer.mamba.A_log"].shape[1],
    }
    return {**settings, **config}, weights.rename(_kept)


def _kept(name: str) -> str | None:
    """None for another block's name of a layer that the second block holds."""
    found = _ALIAS.match(name)
    return None if found is not None and found[1] != "1" else name

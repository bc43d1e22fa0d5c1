"""Upstream LightM-UNet checkpoints: everything about the network is read off the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, layer_count, require_known, require_tensors

_OURS = {"out_channels": "num_classes", "blocks_down": "blocks_down", "blocks_up": "blocks_up"}
_SAME = ("init_filters", "in_channels", "spatial_dims", *_OURS)
_KNOWN = (*_SAME, "patch_size", "dropout_prob", "norm", "act", "upsample_mode")
_PATCHES = {2: (512, 512), 3: (128, 128, 128)}


def import_lightm_unet(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a trainer's file.

    config: may be {}. Axes, channels, classes, blocks and f, whose default differs between upstream's class and its
    trainer, are those of the tensors; what the constructor's arguments say besides must agree. patch_size: of a plan,
    the published one by default. Raises CheckpointError.
    """
    require_known(config, _KNOWN, "give the constructor's arguments, or {}")
    weights = _unwrapped(weights)
    dense = "convInit.conv.weight" in weights
    last = "conv_final.2.conv.weight" if dense else "conv_final.2.1.conv.weight"
    first = "convInit.conv.weight" if dense else "convInit.1.conv.weight"
    require_tensors(weights, [first, last, "down_layers.0.1.norm1.weight"], "LightM-UNet")
    filters, channels = weights[first].shape[:2]
    dims = weights[first].ndim - 2
    levels = layer_count(weights, "down_layers.")
    found: dict[str, Any] = {
        "init_filters": filters,
        "in_channels": channels,
        "num_classes": weights[last].shape[0],
        # A level's module 0 leads down to it; the first level's has no weights.
        "blocks_down": [layer_count(weights, f"down_layers.{level}.") - (level > 0) for level in range(levels)],
        "blocks_up": [layer_count(weights, f"up_layers.{level}.") for level in range(levels - 1)],
        "decoder": "dense" if dense else "depthwise",
    }
    for name in _SAME:
        given, ours = config.get(name), {**found, "spatial_dims": dims}[_OURS.get(name, name)]
        if given is not None and (list(given) if isinstance(ours, list) else given) != ours:
            raise CheckpointError(
                f"{name} is not the tensors'",
                where="the configuration",
                expected=ours,
                got=given,
                way_out="leave it out",
            )
    found["patch_size"] = config.get("patch_size", _PATCHES[dims])
    return found, weights


def _unwrapped(weights: Checkpoint) -> Checkpoint:
    """Without what stands before upstream's names, as `network.` of a trainer."""
    ends = ("convInit.conv.weight", "convInit.1.conv.weight")
    for name in weights:
        for end in ends:
            if name.endswith(f".{end}"):
                return weights.part(name.removesuffix(end))
    return weights

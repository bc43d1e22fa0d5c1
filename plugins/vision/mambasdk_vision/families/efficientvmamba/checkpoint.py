"""Upstream EfficientVMamba checkpoints: constructor arguments, or what the tensors say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.models import Checkpoint, require, require_known, require_tensors
from mambasdk_vision.checkpoint import UPSTREAM_ARGUMENTS
from mambasdk_vision.families.efficientvmamba.config import EfficientVMambaConfig

# Upstream's constructor arguments that are ours too.
_SAME = (
    "dims",
    "depths",
    "num_classes",
    "patch_size",
    "in_chans",
    "mlp_ratio",
    "patch_norm",
    "drop_path_rate",
    "step_size",
    "imgsize",
    "out_indices",
)
_REQUIRED: dict[str, tuple[Any, ...]] = {"downsample_version": ("v1",)}
# What upstream's constructor takes and does not hand to its blocks, choices of memory, where a backbone loads from.
_IGNORED = (
    "d_state",
    "dt_rank",
    "ssm_ratio",
    "attn_drop_rate",
    "drop_rate",
    "mlp_drop_rate",
    "window_size",
    "use_checkpoint",
    "pretrained",
    "type",
)
_STEM, _HEAD = "patch_embed.0.weight", "classifier.head.weight"
_BLOCK = re.compile(r"layers\.(\d+)\.(?:blocks\.(\d+)\.norm|(\d+)\.conv_pw\.0)\.weight")


def import_efficientvmamba(
    config: Mapping[str, Any], weights: Checkpoint
) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's constructor arguments and state dict.

    Arguments that are absent are read off the tensors' shapes, so {} is enough for a released file. With out_indices a
    classifier's file gives a backbone: its end is left out, and norms that it does not have start as identities.
    """
    require_known(config, {*_SAME, *_REQUIRED, *_IGNORED}, UPSTREAM_ARGUMENTS)
    require(config, _REQUIRED, "efficientvmamba")
    weights = weights.part("backbone.")  # of a whole segmenter or detector
    require_tensors(weights, [_STEM, "layers.0.blocks.0.op.x_proj_weight"], "EfficientVMamba")
    settings = {**_read_off(weights), **{name: config[name] for name in _SAME if name in config}}
    maps = settings.get("out_indices") or ()
    if not maps:
        return settings, weights
    tensors = dict(weights.rename(lambda name: None if name.startswith("classifier.") else name))
    widths = EfficientVMambaConfig(**settings).widths
    for index in maps:
        tensors.setdefault(f"outnorm{index}.weight", torch.ones(widths[index]))
        tensors.setdefault(f"outnorm{index}.bias", torch.zeros(widths[index]))
    return settings, tensors


def _read_off(weights: Checkpoint) -> dict[str, Any]:
    width, channels, patch_size, _ = weights[_STEM].shape
    blocks = [match for name in weights if (match := _BLOCK.fullmatch(name))]
    stages = sorted({int(match[1]) for match in blocks})
    hidden = "layers.0.blocks.0.mlp.fc1.weight"
    found: dict[str, Any] = {
        "dims": width,
        "in_chans": channels,
        "patch_size": patch_size,
        "patch_norm": "patch_embed.2.weight" in weights,
        "depths": [sum(int(match[1]) == stage for match in blocks) for stage in stages],
        "mlp_ratio": weights[hidden].shape[0] / width if hidden in weights else 0.0,
    }
    if _HEAD in weights:
        found["num_classes"] = weights[_HEAD].shape[0]
    return found

"""Upstream MedMamba checkpoints: a state dict, and the constructor's arguments where one has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, require, require_tensors
from mambasdk_medical.nn.vss_checkpoint import agreed, stage_depths
from mambasdk_vision.checkpoint import staged_tensors
from mambasdk_vision.nn.stages import stage_widths

_OWN = ("drop_path_rate", "imgsize", "out_indices")
_REQUIRED: dict[str, tuple[Any, ...]] = {
    "patch_size": (4,),
    "patch_norm": (True,),
    "drop_rate": (0, 0.0),
    "attn_drop_rate": (0, 0.0),
}
_IGNORED = ("use_checkpoint",)  # a choice of memory
_LINEAR = ("_proj.weight", "reduction.weight", "head.weight")


def import_medmamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's state dict, whose shapes say every size.

    config: upstream's constructor arguments and our imgsize and out_indices; {} is enough. With out_indices a
    classifier's file gives a backbone: its head is left out, and norms that it does not have start as identities.
    Raises CheckpointError where the configuration says something else than the weights.
    """
    require(config, _REQUIRED, "medmamba")
    weights = weights.part("backbone.")
    names = ["patch_embed.proj.weight", "layers.0.blocks.0.conv33conv33conv11.0.weight"]
    out_indices = list(config.get("out_indices", []))
    require_tensors(weights, [*names, *([] if out_indices else ["head.weight"])], "MedMamba")
    depths = stage_depths(weights, "layers")
    widths = [2 * weights[f"layers.{stage}.blocks.0.ln_1.weight"].shape[0] for stage in range(len(depths))]
    found = {
        "depths": depths,
        "dims": widths,
        "in_chans": weights["patch_embed.proj.weight"].shape[1],
        "d_state": weights["layers.0.blocks.0.self_attention.A_logs"].shape[1],
    }
    if "head.weight" in weights:
        found["num_classes"] = weights["head.weight"].shape[0]
    given = dict(config)
    if isinstance(given.get("dims"), int):
        given["dims"] = list(stage_widths(given["dims"], depths, "medmamba"))
    others = {*_OWN, *_REQUIRED, *_IGNORED, "num_classes"}
    settings = {**agreed(given, found, others), **{name: config[name] for name in _OWN if name in config}}
    return settings, staged_tensors(weights, widths, out_indices, ends=("head.",), linear=_LINEAR)

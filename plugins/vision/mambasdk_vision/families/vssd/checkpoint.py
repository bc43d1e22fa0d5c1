"""Upstream VSSD checkpoints: constructor arguments, classifiers, backbones, whole segmenters and detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, require, require_known
from mambasdk_vision.checkpoint import UPSTREAM_ARGUMENTS, staged_tensors
from mambasdk_vision.nn.stages import stage_widths

# Upstream's arguments that are ours too, and those with another name; the defaults are those of the published models.
_DEFAULTS: dict[str, Any] = {
    "in_chans": 3,
    "num_classes": 1000,
    "embed_dim": 64,
    "depths": [2, 4, 8, 4],
    "num_heads": [2, 4, 8, 16],
    "d_state": 64,
    "mlp_ratio": 4.0,
    "attn_types": ["mamba2", "mamba2", "mamba2", "standard"],
    "drop_path_rate": 0.0,
    "out_indices": [],
}
_RENAMED = {"ssd_expansion": "expand", "ssd_ngroups": "ngroups", "ssd_positve_dA": "positive"}
_MIXING = {"linear_attn_duality", "bidirection"}
_SIZES = ("img_size", "image_size")
_REQUIRED: dict[str, tuple[Any, ...]] = {
    "patch_size": (4,),
    "simple_downsample": (False,),
    "simple_patch_embed": (False,),
    "lepe": (False,),
    "drop_rate": (0, 0.0),
}
# Choices of memory and kernels, where a backbone loads from, and `ssd_expand`, which upstream ignores too.
_IGNORED = ("use_checkpoint", "pretrained", "ssd_chunk_size", "ssd_expand")
_LINEAR = ("_proj.weight", "to_qkv.weight", "to_out.weight", "fc1.weight", "fc2.weight", "head.weight")


def import_vssd(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's constructor arguments and state dict; see staged_tensors."""
    known = {*_DEFAULTS, *_RENAMED, *_MIXING, *_SIZES, *_REQUIRED, *_IGNORED}
    require_known(config, known, UPSTREAM_ARGUMENTS)
    require(config, _REQUIRED, "vssd")
    settings = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
    settings |= {ours: config[theirs] for theirs, ours in _RENAMED.items() if theirs in config}
    settings["imgsize"] = next((config[name] for name in _SIZES if name in config), 224)
    if not config.get("linear_attn_duality", True):
        settings["mixing"] = "bidirectional" if config.get("bidirection", False) else "causal"
    widths = stage_widths(settings["embed_dim"], settings["depths"], "vssd")
    ends = ("norm.", "head.")
    return settings, staged_tensors(weights, widths, settings["out_indices"], ends=ends, linear=_LINEAR)

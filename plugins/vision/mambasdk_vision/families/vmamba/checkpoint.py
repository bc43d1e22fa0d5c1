"""Upstream VMamba checkpoints: constructor arguments, older names, channel-first files, position embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, require, require_known
from mambasdk_vision.checkpoint import UPSTREAM_ARGUMENTS, staged_tensors
from mambasdk_vision.nn import pair
from mambasdk_vision.nn.positions import resize_grid
from mambasdk_vision.nn.stages import stage_widths

# Upstream's arguments that are ours too; the defaults are those of its constructor.
_DEFAULTS: dict[str, Any] = {
    "patch_size": 4,
    "in_chans": 3,
    "num_classes": 1000,
    "depths": [2, 2, 9, 2],
    "dims": [96, 192, 384, 768],
    "ssm_d_state": 16,
    "ssm_ratio": 2.0,
    "ssm_dt_rank": "auto",
    "ssm_act_layer": "silu",
    "ssm_conv": 3,
    "ssm_conv_bias": True,
    "ssm_drop_rate": 0.0,
    "ssm_init": "v0",
    "forward_type": "v2",
    "mlp_ratio": 4.0,
    "mlp_act_layer": "gelu",
    "mlp_drop_rate": 0.0,
    "patch_norm": True,
    "downsample_version": "v2",
    "patchembed_version": "v1",
    "drop_path_rate": 0.1,
    "posembed": False,
    "imgsize": 224,
    "out_indices": [],
}
_REQUIRED: dict[str, tuple[Any, ...]] = {"gmlp": (False,), "norm_layer": ("ln", "LN", "ln2d", "LN2D")}
# Choices of memory, and where a backbone loads from.
_IGNORED = ("use_checkpoint", "pretrained", "fused_path")
# Names of older files.
_OLDER = (
    ("patch_embed.proj.", "patch_embed.0."),
    ("patch_embed.norm.", "patch_embed.2."),
    (".ln_1.", ".norm."),
    (".ln_2.", ".norm2."),
    (".self_attention.", ".op."),
)
_LINEAR = ("_proj.weight", "fc1.weight", "fc2.weight", "reduction.weight", "classifier.head.weight")
_OLDER_STARTS = (("norm.", "classifier.norm."), ("head.", "classifier.head."))


def import_vmamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's constructor arguments and state dict.

    Linear layers of channel-first files may be (out, in, 1, 1). With out_indices a classifier's file gives a backbone:
    its end is left out, and norms that it does not have start as identities, as upstream loads it.
    """
    require_known(config, {*_DEFAULTS, *_REQUIRED, *_IGNORED}, UPSTREAM_ARGUMENTS)
    require(config, _REQUIRED, "vmamba")
    settings = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
    weights = weights.part("backbone.").rename(_newer)  # the part of a whole segmenter or detector
    widths = stage_widths(settings["dims"], settings["depths"], "vmamba")
    tensors = staged_tensors(weights, widths, settings["out_indices"], ends=("classifier.",), linear=_LINEAR)
    if settings["posembed"] and "pos_embed" in tensors:
        rows, columns = (side // settings["patch_size"] for side in pair(settings["imgsize"], "imgsize", "vmamba"))
        tensors["pos_embed"] = resize_grid(tensors["pos_embed"], rows, columns)
    return settings, tensors


def _newer(name: str) -> str:
    for old, new in _OLDER_STARTS:
        if name.startswith(old):
            return new + name[len(old) :]
    for old, new in _OLDER:
        name = name.replace(old, new)
    return name

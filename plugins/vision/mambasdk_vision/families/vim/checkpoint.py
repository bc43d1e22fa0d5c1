"""Upstream Vim checkpoints: constructor arguments, names, and position embeddings of another grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, layer_count, require, require_known, require_tensors
from mambasdk_vision.checkpoint import UPSTREAM_ARGUMENTS
from mambasdk_vision.families.vim.config import VimConfig
from mambasdk_vision.families.vim.rope import PatchRotation

# Upstream's constructor arguments -> ours.
_RENAMED = {
    "img_size": "img_size",
    "patch_size": "patch_size",
    "stride": "stride",
    "depth": "depth",
    "embed_dim": "embed_dim",
    "d_state": "d_state",
    "channels": "channels",
    "num_classes": "num_classes",
    "drop_path_rate": "drop_path_rate",
    "norm_epsilon": "norm_epsilon",
    "rms_norm": "rms_norm",
    "residual_in_fp32": "residual_in_fp32",
    "if_divide_out": "divide_out",
    "init_layer_scale": "init_layer_scale",
    "if_rope": "rope",
    "if_rope_residual": "rope_residual",
    "pt_hw_seq_len": "rope_grid",
    "out_indices": "out_layers",
}
# Ours, which upstream decides by the class that is built.
_OURS = ("task", "feature_stream", "out_channels")
# What must have one of these values, as nothing else was ever released.
_REQUIRED: dict[str, tuple[Any, ...]] = {
    "bimamba_type": ("v2",),
    "if_abs_pos_embed": (True,),
    "if_bidirectional": (False,),
    "if_bimamba": (False,),
    "flip_img_sequences_ratio": (-1, -1.0, 0, 0.0),
    "use_double_cls_token": (False,),
    "ssm_cfg": (None, {}),
}
# Choices of kernels and of initialisation.
_IGNORED = (
    "fused_add_norm",
    "drop_rate",
    "ft_seq_len",
    "initializer_cfg",
    "norm_layer",
    "device",
    "dtype",
    "pretrained",
)
_TOKEN = ("if_cls_token", "use_middle_cls_token", "final_pool_type")


def import_vim(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's constructor arguments and state dict.

    Arguments that are absent are read off the tensors' shapes, so {} is enough for a released classifier.
    """
    require_known(config, {*_RENAMED, *_OURS, *_REQUIRED, *_IGNORED, *_TOKEN}, UPSTREAM_ARGUMENTS)
    require(config, _REQUIRED, "vim")
    weights = weights.part("backbone.")  # of a whole segmenter or detector
    settings = {ours: config[theirs] for theirs, ours in _RENAMED.items() if theirs in config}
    settings.update({name: config[name] for name in _OURS if name in config})
    dense = settings.get("task", "classification") != "classification"
    prefix = "net." if f"net.{_PATCHES}" in weights else ""
    for name, value in _read_off(weights, prefix).items():
        if settings.get(name) is None:
            settings[name] = value
    settings["class_token"] = _class_token(config, f"{prefix}cls_token" in weights)
    if settings.get("rope") and settings["class_token"] == "middle":
        settings["rope_skips_first"] = True  # what the weights were trained with
    pool = config.get("final_pool_type", "mean")
    settings["pool"] = "last" if pool == "none" else pool
    if settings.get("stride") is None or "img_size" not in settings:
        settings.update(_geometry(settings, weights[f"{prefix}pos_embed"].shape[1], prefix + "cls_token" in weights))
    ended = ("norm_f.", "head.", "cls_token") if dense else ()
    tensors = weights.rename(lambda name: None if name.removeprefix(prefix).startswith(("rope.", *ended)) else name)
    if not settings.get("rope"):
        return settings, tensors
    return settings, {**tensors, **_rotations(settings, prefix)}


_PATCHES = "patch_embed.proj.weight"


def _read_off(weights: Checkpoint, prefix: str) -> dict[str, Any]:
    first = f"{prefix}layers.0.mixer."
    needed = [
        f"{prefix}{_PATCHES}",
        f"{prefix}pos_embed",
        f"{first}in_proj.weight",
        f"{first}A_log",
        f"{first}conv1d.weight",
    ]
    require_tensors(weights, needed, "Vim")
    dim, channels, patch, _ = weights[needed[0]].shape
    found = {
        "embed_dim": dim,
        "channels": channels,
        "patch_size": patch,
        "depth": layer_count(weights, f"{prefix}layers."),
        "expand": weights[needed[2]].shape[0] / (2 * dim),
        "d_state": weights[needed[3]].shape[1],
        "d_conv": weights[needed[4]].shape[-1],
        "rms_norm": f"{prefix}layers.0.norm.bias" not in weights,
    }
    if "head.weight" in weights:
        found["num_classes"] = weights["head.weight"].shape[0]
    if f"{first}gamma" in weights:
        found["init_layer_scale"] = 1.0
    return found


def _class_token(config: Mapping[str, Any], present: bool) -> str:
    """Upstream's two flags as one choice; the released models have the middle."""
    if not config.get("if_cls_token", present):
        return "none"
    return "middle" if config.get("use_middle_cls_token", True) else "first"


def _geometry(settings: Mapping[str, Any], rows: int, token: bool) -> dict[str, int]:
    """The stride and the square image that give so many positions."""
    patch = settings["patch_size"]
    size = settings.get("img_size", 224)
    stride = settings.get("stride")
    side = math.isqrt(rows - token)
    if side * side == rows - token and isinstance(size, int) and side > 1:
        if stride is None and (size - patch) // (side - 1) > 0:
            stride = (size - patch) // (side - 1)
        if "img_size" not in settings and stride is not None and (size - patch) // stride + 1 != side:
            size = patch + (side - 1) * stride
        if stride is not None and (size - patch) // stride + 1 == side:
            return {"img_size": size, "stride": stride}
    raise CheckpointError(
        f"{rows} positions say nothing about the image",
        where="vim configuration",
        way_out="give img_size and stride in the configuration",
    )


def _rotations(settings: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    config = VimConfig(**settings)
    skip = 0 if config.rope_skips_first else config.class_position
    with torch.device("cpu"):
        table = PatchRotation(config.embed_dim, config.grid, config.rope_grid, skip)
    return {f"{prefix}rope.{name}": tensor for name, tensor in table.state_dict().items()}

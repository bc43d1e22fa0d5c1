"""Upstream Vim checkpoints: constructor arguments, names, and position embeddings of another grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import Checkpoint
from mambasdk_vision.nn.positions import resize_grid
from mambasdk_vision.vim.config import VimConfig
from mambasdk_vision.vim.rope import PatchRotation

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
    _check_arguments(config)
    if any(name.startswith("backbone.") for name in weights):  # a whole segmenter or detector
        weights = weights.rename(lambda name: name[9:] if name.startswith("backbone.") else None)
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


def _check_arguments(config: Mapping[str, Any]) -> None:
    known = {*_RENAMED, *_OURS, *_REQUIRED, *_IGNORED, *_TOKEN}
    if stray := sorted(set(config) - known):
        raise CheckpointError(
            f"unknown arguments: {', '.join(stray)}",
            where="vim configuration",
            way_out='give the constructor\'s arguments (the golden files have them under "kwargs"), or {}',
        )
    for name, allowed in _REQUIRED.items():
        if name in config and config[name] not in allowed:
            raise CheckpointError(
                f"{name} = {config[name]!r} is no model that this family has",
                where="vim configuration",
                expected=" or ".join(map(repr, allowed)),
            )


def _read_off(weights: Checkpoint, prefix: str) -> dict[str, Any]:
    first = f"{prefix}layers.0.mixer."
    needed = [
        f"{prefix}{_PATCHES}",
        f"{prefix}pos_embed",
        f"{first}in_proj.weight",
        f"{first}A_log",
        f"{first}conv1d.weight",
    ]
    if absent := [name for name in needed if name not in weights]:
        raise CheckpointError(f"no Vim: {', '.join(absent)} missing", where=weights.where)
    dim, channels, patch, _ = weights[needed[0]].shape
    layers = {
        name.removeprefix(f"{prefix}layers.").split(".")[0] for name in weights if name.startswith(f"{prefix}layers.")
    }
    found = {
        "embed_dim": dim,
        "channels": channels,
        "patch_size": patch,
        "depth": len(layers),
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


def resize_positions(positions: Tensor, old: VimConfig, new: VimConfig, *, legacy: bool = False) -> Tensor:
    """The position embedding (1, T, D) of `old` for the grid of `new`, and with its class token or without.

    The class token's row is taken out wherever it stands, the grid resized (bicubic), and the row put where the new
    class token stands. legacy: as upstream's fine-tuning does it: row 0 counts as the class token's and stays in
    front, although it belongs to the first patch when the token stands in the middle (spec section 10).
    Raises InvalidArgumentError where `new` has a class token and `old` has none, or legacy fits no grid.
    """
    where = "resize_positions"
    if new.class_position is not None and old.class_position is None:
        raise InvalidArgumentError("the old model has no class token", where=where, way_out='pass class_token="none"')
    if legacy and (old.class_position is None or new.class_position is None):
        raise InvalidArgumentError("legacy interpolation needs a class token in both models", where=where)
    at = 0 if legacy else old.class_position
    row = None if at is None else positions[:, at : at + 1]
    grid = positions if at is None else torch.cat([positions[:, :at], positions[:, at + 1 :]], 1)
    resized = resize_grid(grid.transpose(1, 2).unflatten(2, old.grid), *new.grid).flatten(2).transpose(1, 2)
    to = 0 if legacy else new.class_position
    if row is None or to is None:
        return resized.contiguous()
    return torch.cat([resized[:, :to], row, resized[:, to:]], 1)

"""Upstream PlainMamba checkpoints: constructor arguments, or what the tensors say, and names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, layer_count, require, require_known, require_tensors
from mambasdk_vision.checkpoint import UPSTREAM_ARGUMENTS
from mambasdk_vision.families.plainmamba.config import PlainMambaConfig

# Upstream's constructor arguments that are ours too.
_SAME = (
    "img_size",
    "patch_size",
    "embed_dims",
    "num_layers",
    "num_convs_patch_embed",
    "layers_with_dwconv",
    "drop_path_rate",
    "num_classes",
    "params_follow_route",
)
_MIXER = ("d_state", "expand", "conv_size", "conv_bias", "bias", "dt_rank")
_REQUIRED: dict[str, tuple[Any, ...]] = {"use_rms_norm": (False,)}
# Where steps begin, the grid whose routes are made beforehand, choices of the training framework.
_MIXER_IGNORED = ("dt_init", "dt_min", "dt_max", "dt_scale", "dt_init_floor", "default_hw_shape", "init_layer_scale")
_IGNORED = ("type", "init_cfg", "pretrained", "with_cp", "layer_cfgs", "out_indices")
_HEAD = "head.fc.weight"


def import_plainmamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's constructor arguments and state dict.

    Arguments that are absent are read off the tensors' shapes, so {} is enough for a released file. With out_indices a
    classifier's file gives a backbone: its head is left out, and norms that it does not have start as identities.
    """
    layer = config.get("layer_cfgs", {})
    mixer = layer.get("mamba_cfg", {})
    require_known(config, {*_SAME, *_IGNORED}, UPSTREAM_ARGUMENTS)
    require_known(layer, {*_REQUIRED, "mamba_cfg"}, UPSTREAM_ARGUMENTS)
    require_known(mixer, {*_MIXER, *_MIXER_IGNORED}, UPSTREAM_ARGUMENTS)
    require(layer, _REQUIRED, "plainmamba")
    weights = weights.rename(_ours)
    settings = _read_off(weights)
    settings.update({name: config[name] for name in _SAME if name in config})
    settings.update({name: mixer[name] for name in _MIXER if name in mixer})
    if "img_size" not in settings:
        settings["img_size"] = _image_size(weights, settings["patch_size"])
    settings["out_indices"] = _out_indices(config.get("out_indices"), settings["num_layers"])
    maps = PlainMambaConfig(**settings).maps
    if not maps:
        return settings, weights.rename(lambda name: None if name.startswith("norm_layer") else name)
    norms = {"ln1" if index + 1 == settings["num_layers"] else f"norm_layer{index}" for index in maps}
    dropped = weights.rename(lambda name: name if _kept(name, norms) else None)
    width = settings["embed_dims"]
    identities = {f"{name}.weight": torch.ones(width) for name in norms}
    identities |= {f"{name}.bias": torch.zeros(width) for name in norms}
    return settings, {**identities, **dropped}


def _ours(name: str) -> str | None:
    """Without the wrapper; None for other parts of a segmenter or detector, and what averaging keeps beside it."""
    if name.startswith("backbone."):
        return name.removeprefix("backbone.")
    own = ("patch_embed.", "pos_embed", "layers.", "ln1.", "norm_layer", "head.fc.")
    return name if name.startswith(own) else None


def _kept(name: str, norms: set[str]) -> bool:
    end = name.startswith(("head.", "ln1.", "norm_layer"))
    return not end or name.rpartition(".")[0] in norms


def _read_off(weights: Checkpoint) -> dict[str, Any]:
    first = "layers.0.mamba."
    needed = ["patch_embed.projection.weight", "pos_embed", f"{first}in_proj.weight", f"{first}A_log"]
    needed += [f"{first}conv2d.weight", f"{first}dt_proj.weight"]
    require_tensors(weights, needed, "PlainMamba")
    channels, _, half_patch, _ = weights[needed[0]].shape
    count = layer_count(weights, "layers.")
    found: dict[str, Any] = {
        "embed_dims": channels,
        "patch_size": 2 * half_patch,
        "num_layers": count,
        "num_convs_patch_embed": sum(
            name.startswith("patch_embed.convs.") and weights[name].ndim == 4 for name in weights
        ),
        "layers_with_dwconv": [index for index in range(count) if f"layers.{index}.dw.0.weight" in weights],
        "expand": weights[f"{first}in_proj.weight"].shape[0] // (2 * channels),
        "d_state": weights[f"{first}A_log"].shape[1],
        "conv_size": weights[f"{first}conv2d.weight"].shape[-1],
        "conv_bias": f"{first}conv2d.bias" in weights,
        "bias": f"{first}in_proj.bias" in weights,
    }
    if (rank := weights[f"{first}dt_proj.weight"].shape[1]) != math.ceil(channels / 16):
        found["dt_rank"] = rank
    if _HEAD in weights:
        found["num_classes"] = weights[_HEAD].shape[0]
    return found


def _image_size(weights: Checkpoint, patch_size: int) -> int:
    """The square image that has so many positions."""
    count = weights["pos_embed"].shape[1]
    side = math.isqrt(count)
    if side * side != count:
        raise CheckpointError(
            f"{count} positions are no square",
            where="plainmamba configuration",
            way_out="give img_size in the configuration",
        )
    return side * patch_size


def _out_indices(value: Any, layers: int) -> Any:
    """Layers counted from the first; None and -1, which upstream's classifier has, mean none."""
    if value is None or value == -1:
        return []
    if isinstance(value, str):
        return value
    return [index % layers for index in ([value] if isinstance(value, int) else value)]

"""Upstream Swin-UMamba checkpoints, and ImageNet weights of VMamba to begin with."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mambasdk.models import Checkpoint, require_known, require_tensors
from mambasdk_medical.nn.vss_checkpoint import begin_from_vmamba, encoder_settings, stage_depths

if TYPE_CHECKING:
    from torch import Tensor, nn

_ENCODER = "vssm_encoder."
_OWN = ("patch_size", "drop_path_rate", "deep_supervision")
_STEM = ("patch_embed.proj.weight", "patch_embed.0.weight")  # in older and newer files of VMamba


def import_swin_umamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's state dict, of either variant; its shapes say every size.

    config: patch_size, drop_path_rate and deep_supervision, or {}.
    """
    require_known(config, _OWN, "the weights say the sizes; give patch_size, drop_path_rate, deep_supervision or {}")
    weights = weights.rename(_ours)
    require_tensors(weights, ["vssm_encoder.patch_embed.proj.weight"], "Swin-UMamba")
    found: dict[str, Any] = dict(encoder_settings(weights.part(_ENCODER)))
    found["d_state"] = weights["vssm_encoder.layers.0.blocks.0.self_attention.A_logs"].shape[1]
    if "decoder.concat_back_dim.0.weight" in weights:
        stem, last = "vssm_encoder.patch_embed.proj.weight", "decoder.seg_layers.0.weight"
        found |= {"decoder": "scans", "decoder_depth": stage_depths(weights, "decoder.stages")[0]}
    else:
        stem, last = "stem.0.weight", "out_layers.0.conv.conv.weight"
        require_tensors(weights, [stem, last], "Swin-UMamba")
        found |= {"decoder": "convolutions", "stem_width": weights[stem].shape[0]}
    found |= {"in_channels": weights[stem].shape[1], "num_classes": weights[last].shape[0]}
    return {**found, **config}, weights


def begin_from_imagenet(model: nn.Module, weights: Mapping[str, Tensor] | str | os.PathLike[str]) -> list[str]:
    """Begin from the weights of a VMamba classifier, its first version, in upstream's files or ours.

    All stages are taken, and the patches' layer where it has the shape of the model's: upstream takes it for colour
    images of the D variant alone. The classifier's end is left out; the rest of the model stays as it is. Returns the
    names in `model` that were set. Raises CheckpointError for a tensor of another shape. Source: arXiv 2402.03302.
    """
    encoder: Any = model.get_submodule(_ENCODER.removesuffix("."))
    stem = encoder.patch_embed.proj.weight.shape
    with Checkpoint.open(weights) as opened:
        fits = any(name in opened and opened[name].shape == stem for name in _STEM)
        kept = {name: opened[name] for name in opened if fits or not name.startswith("patch_embed.")}
        return [_ENCODER + name for name in begin_from_vmamba(encoder, kept)]


def _ours(name: str) -> str:
    """Upstream keeps the merging of patches in a list of its own."""
    return re.sub(r"^vssm_encoder\.downsamples\.(\d+)\.", r"vssm_encoder.layers.\1.downsample.", name)

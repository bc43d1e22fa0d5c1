"""Upstream SegMamba checkpoints: what the tensors do not say is the number of slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, layer_count, require_known, require_tensors
from mambasdk_medical.families.segmamba.config import SegMambaConfig

_KNOWN = ("patch_size", "num_slices", "in_chans", "out_chans", "depths", "feat_size", "hidden_size")
_STEM = "vit.downsample_layers.0.0.weight"


def import_segmamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a trainer's file.

    config: may be {}. patch_size and num_slices where they are not the published ones; what upstream's constructor
    says besides is read off the tensors.
    """
    require_known(config, _KNOWN, "give patch_size and num_slices, or {}")
    for name in weights:
        if name.endswith(f".{_STEM}"):
            weights = weights.part(name.removesuffix(_STEM))
            break
    first = "vit.stages.0.0.mamba.A_log"
    require_tensors(weights, [_STEM, first, "out.conv.conv.weight"], "SegMamba")
    stages = layer_count(weights, "vit.stages.")
    deepest = f"encoder{stages + 1}.layer.conv1.conv.weight"
    require_tensors(weights, [deepest], "SegMamba")
    published = SegMambaConfig()
    return {
        "patch_size": config.get("patch_size", published.patch_size),
        "in_channels": weights[_STEM].shape[1],
        "num_classes": weights["out.conv.conv.weight"].shape[0],
        "dims": [weights[f"vit.stages.{stage}.0.norm.weight"].shape[0] for stage in range(stages)],
        "depths": [layer_count(weights, f"vit.stages.{stage}.") for stage in range(stages)],
        "num_slices": config.get("num_slices", published.num_slices),
        "hidden_size": weights[deepest].shape[0],
        "d_state": weights[first].shape[1],
    }, weights

"""Upstream UltraLight VM-UNet checkpoints: a state dict, and the constructor's arguments where one has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, renamed, require, require_known, require_tensors
from mambasdk_medical.families.ultralight_vm_unet.config import STAGES

_RENAMED = {
    "num_classes": "num_classes",
    "input_channels": "in_channels",
    "c_list": "widths",
    "bridge": "bridge",
    "patch_size": "patch_size",
}
# Linear layers or convolutions of one position, which are the same; only the shapes of their weights differ.
_REQUIRED: dict[str, tuple[Any, ...]] = {"split_att": ("fc", "conv")}
_COUNTERS = (".total_ops", ".total_params", "total_ops", "total_params")  # what a profiler leaves in a module


def import_ultralight_vm_unet(
    config: Mapping[str, Any], weights: Checkpoint
) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's state dict; sizes that `config` does not have are read from it.

    config: upstream's num_classes, input_channels, c_list, split_att and bridge, and our patch_size; {} is enough.
    """
    require_known(config, {*_RENAMED, *_REQUIRED}, "give the arguments of upstream's constructor, or {}")
    require(config, _REQUIRED, "ultralight_vm_unet")
    ends = [_out(level) for level in range(1, STAGES + 1)]
    require_tensors(
        weights, ["encoder1.0.weight", "final.weight", "encoder4.0.mamba.A_log", *ends], "UltraLight VM-UNet"
    )
    mixer = {name: weights[f"encoder4.0.mamba.{name}"].shape for name in ("A_log", "conv1d.weight", "in_proj.weight")}
    found = {
        "in_channels": weights["encoder1.0.weight"].shape[1],
        "num_classes": weights["final.weight"].shape[0],
        "widths": [weights[name].shape[0] for name in ends],
        "d_state": mixer["A_log"][1],
        "d_conv": mixer["conv1d.weight"][2],
        "expand": mixer["A_log"][0] // mixer["in_proj.weight"][1],
        "bridge": "scab.satt.shared_conv2d.0.weight" in weights,
    }
    weights = weights.rename(lambda name: None if name.endswith(_COUNTERS) else name)

    def flat(name: str) -> Tensor:
        tensor = weights[name]
        return tensor.squeeze(-1) if name.startswith("scab.catt.att") and tensor.ndim == 3 else tensor

    return {**found, **renamed(config, _RENAMED)}, {name: flat(name) for name in weights}


def _out(level: int) -> str:
    """What has the width of a stage as its first extent."""
    return f"encoder{level}.0.{'weight' if level <= STAGES // 2 else 'proj.weight'}"

"""Upstream Mamba-YOLO checkpoints: scale and classes by arguments, whole trainers' files, half precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, require_known
from mambasdk_vision.families.mamba_yolo.config import LEVELS

# Upstream's names of a model's scale, and ours.
_NAMES = {
    "nc": "num_classes",
    "depth": "depth",
    "width": "width",
    "max_channels": "max_channels",
    "reg_max": "reg_max",
    "ch": "in_chans",
    "imgsz": "imgsz",
}


def import_mamba_yolo(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a model's scale (`depth`, `width`, `max_channels`) and its state dict.

    Where they are missing they are those of T; `nc` and the channels are read off the tensors. Projections of the scans
    may be convolutions of side 1.
    """
    require_known(config, _NAMES, f"upstream's names of a scale are {', '.join(_NAMES)}")
    settings = {ours: config[theirs] for theirs, ours in _NAMES.items() if theirs in config}
    weights = weights.rename(_plain)
    settings.setdefault("num_classes", len(weights["model.21.cv3.0.2.bias"]))
    settings["upstream_widths"] = settings["num_classes"] in LEVELS
    return settings, {name: _flat(name, weights[name]) for name in weights}


def _plain(name: str) -> str:
    """Without what a module that holds the model puts before: `model.model.0.…`."""
    while name.startswith("model.model."):
        name = name.removeprefix("model.")
    return name if name.startswith("model.") else f"model.{name}"


def _flat(name: str, tensor: Tensor) -> Tensor:
    """The weight of a scan's projection without its last two dims, and numbers in float32 where they are narrower."""
    linear = name.endswith((".op.in_proj.weight", "out_proj.weight")) or (".ss2d." in name and "in_proj.weight" in name)
    tensor = tensor.flatten(1) if linear and tensor.ndim == 4 else tensor
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor

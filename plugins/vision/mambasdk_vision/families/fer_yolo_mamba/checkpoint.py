"""Upstream FER-YOLO-Mamba checkpoints: the size by its letter, wrapped modules, half precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, config_where, require_known

_SIZES = {"s": (0.33, 0.5)}  # the one that upstream's widths are written for: depth, width
_NAMES = {"num_classes": "num_classes", "input_shape": "imgsz", "depth": "depth", "width": "width"}


def import_fer_yolo_mamba(
    config: Mapping[str, Any], weights: Checkpoint
) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's arguments (`phi`, `num_classes`, `input_shape`) and state dict.

    `depth` and `width` stand for a size that has no letter. Classes are read off the tensors where they are not given.
    """
    require_known(config, {*_NAMES, "phi"}, f"the arguments are phi, {', '.join(_NAMES)}")
    phi = config.get("phi", "s")
    if phi not in _SIZES:
        raise CheckpointError(
            f"phi = {phi!r}",
            where=config_where(config),
            expected=" or ".join(map(repr, _SIZES)),
            way_out="give depth and width in place of phi",
        )
    settings: dict[str, Any] = dict(zip(("depth", "width"), _SIZES[phi], strict=True))
    settings |= {ours: config[theirs] for theirs, ours in _NAMES.items() if theirs in config}
    weights = weights.part("model.")
    settings.setdefault("num_classes", len(weights["head.cls_preds.0.bias"]))
    return settings, {name: _wide(weights[name]) for name in weights}


def _wide(tensor: Tensor) -> Tensor:
    """In float32 where it is narrower."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor

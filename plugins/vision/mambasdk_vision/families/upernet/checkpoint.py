"""Released UPerNet files, as mmsegmentation writes them: `backbone.*`, `decode_head.*`, `auxiliary_head.*`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, find_model, require_known, require_tensors
from mambasdk.plugins import resolve
from mambasdk_vision.model import feature_maps

_HEADS = ("decode_head.", "auxiliary_head.")
_OWN = ("image_size", "pool_scales", "dropout", "auxiliary_index", "auxiliary_weight")
_KNOWN = ("backbone", "backbone_config", *_OWN)
_WAY_OUT = 'write {"backbone": FAMILY, "backbone_config": {the arguments of upstream\'s constructor}}'


def import_upernet(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a segmenter's file.

    config: "backbone", the encoder's family; "backbone_config", what that family's importer takes: the arguments of
    upstream's constructor; image_size, pool_scales, dropout, auxiliary_index and auxiliary_weight of UPerNetConfig
    where they are not its defaults. Widths and classes are those of the tensors.
    """
    require_known(config, _KNOWN, _WAY_OUT)
    require_tensors(weights, ["decode_head.conv_seg.weight", "decode_head.fpn_bottleneck.conv.weight"], "UPerNet")
    name = config["backbone"]
    if not isinstance(name, str):
        raise CheckpointError("backbone is no name", where="the configuration", way_out=_WAY_OUT)
    family, _ = find_model(name)
    if family.importer is None:
        raise CheckpointError("it has no checkpoint importer", where=f"family {family.name}")
    arguments = {**_maps_arguments(name), **config.get("backbone_config", {})}
    settings, encoder = resolve(family.importer)(arguments, weights.part("backbone."))
    tensors: dict[str, Tensor] = {f"backbone.{key}": encoder[key] for key in encoder}
    tensors |= {key: weights[key] for key in weights if key.startswith(_HEADS)}
    classes, channels = tensors["decode_head.conv_seg.weight"].shape[:2]
    auxiliary = tensors.get("auxiliary_head.conv_seg.weight")
    overrides = {
        "backbone": name,
        "backbone_config": settings,
        "num_classes": classes,
        "channels": channels,
        "auxiliary_channels": 0 if auxiliary is None else auxiliary.shape[1],
        **_fixed_size(name, settings),
        **{key: config[key] for key in _OWN if key in config},
    }
    return overrides, tensors


def _maps_arguments(name: str) -> dict[str, Any]:
    """What makes maps of the encoder, which importers know under our names where upstream has none."""
    with torch.device("meta"):
        return dict(type(feature_maps(name)).maps_config)


def _fixed_size(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The image size of an encoder that takes one alone."""
    with torch.device("meta"):
        sides = feature_maps(name, **settings).input_shapes()["image"][-2:]
    return {"image_size": sides} if all(isinstance(side, int) for side in sides) else {}

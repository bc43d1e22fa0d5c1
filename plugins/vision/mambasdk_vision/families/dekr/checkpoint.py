"""DEKR models of mmpose: an encoder's file under `backbone.`, and the layers of `head.`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, require_known, require_tensors
from mambasdk_vision.pose.backbone import import_backbone

_ARGUMENTS = ("backbone", "backbone_config", "input_size")
_FIRST, _LAST = "head.heatmap_conv_layers.0.conv.weight", "head.heatmap_conv_layers.2.weight"
_INNER = "head.displacement_conv_layers.0.conv.weight"


def import_dekr(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our configuration and tensors from a file whose names are `backbone.*` and `head.*_conv_layers.*`.

    config: backbone, a family or variant of this SDK (the files do not name theirs); backbone_config, as the importer
    of that family takes it; input_size. Other sizes are read off the head. The preprocessor's statistics and the
    network that scores poses anew (`head.rescore_net.*`) are left out.
    """
    require_known(config, _ARGUMENTS, "give backbone, backbone_config and input_size")
    require_tensors(weights, [_FIRST, _LAST, _INNER], "DEKR")
    keypoints = int(weights[_LAST].shape[0]) - 1
    settings = {
        **{name: config[name] for name in _ARGUMENTS if name in config},
        "keypoints": keypoints,
        "heatmap_filters": int(weights[_FIRST].shape[0]),
        "displacement_filters": int(weights[_INNER].shape[0]) // keypoints,
    }
    own, tensors = import_backbone(settings.get("backbone"), settings.get("backbone_config", {}), weights)
    kept = (name for name in weights if name.startswith("head.") and not name.startswith("head.rescore_net."))
    return {**settings, "backbone_config": own}, {**tensors, **{name: weights[name] for name in kept}}

"""Top-down pose models of mmpose: an encoder's file under `backbone.`, and `head.final_layer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, require_known, require_tensors
from mambasdk_vision.pose.backbone import import_backbone

_ARGUMENTS = ("backbone", "backbone_config", "keypoints", "input_size")
_LAST = "head.final_layer.weight"


def import_heatmap_pose(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our configuration and tensors from a file whose names are `backbone.*` and `head.final_layer.*`.

    config: backbone, a family or variant of this SDK (the files do not name theirs); backbone_config, as the importer
    of that family takes it; input_size. The number of keypoints is read off the last layer. Statistics of the
    preprocessor (`data_preprocessor.*`) are left out: they are the processor's mean and std.
    """
    require_known(config, _ARGUMENTS, "give backbone, backbone_config and input_size")
    require_tensors(weights, [_LAST], "top-down pose")
    settings = {name: config[name] for name in _ARGUMENTS if name in config}
    settings["keypoints"] = weights[_LAST].shape[0]
    own, tensors = import_backbone(settings.get("backbone"), settings.get("backbone_config", {}), weights)
    head = {name: weights[name] for name in weights if name.startswith("head.")}
    return {**settings, "backbone_config": own}, {**tensors, **head}

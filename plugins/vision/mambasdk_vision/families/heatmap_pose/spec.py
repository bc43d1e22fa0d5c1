"""The family `heatmap_pose`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import PERSON_CROP

_VARIANTS: dict[str, dict[str, Any]] = {
    # What the bare name means: it trains on two cores.
    "heatmap-pose-mini": {"backbone": "vmamba-mini", "input_size": [64, 48]},
}

FAMILY = FamilySpec(
    name="heatmap_pose",
    summary="top-down pose by heat maps (arXiv 1804.06208) on any image encoder",
    config=".config:HeatmapPoseConfig",
    factory=".model:build",
    importer=".checkpoint:import_heatmap_pose",
    variants=_VARIANTS,
    default_variant="heatmap-pose-mini",
    head="pose_estimation",
    processors={"image": PERSON_CROP},
    tiny={
        "backbone": "vmamba",
        "backbone_config": {"dims": 8, "depths": [1, 1], "out_indices": [0, 1]},
        "input_size": [32, 24],
        "keypoints": 5,
    },
    fields={"image_size": "input_size"},
    causal=False,
)

"""The family `dekr`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import PERSON_CROP


def _crowd_pose(size: str) -> dict[str, Any]:
    """CrowdPose's 14 keypoints on HRVMamba (arXiv 2410.03174)."""
    return {
        "backbone": f"hrvmamba-{size}-pose",
        "backbone_config": {"multiscale_output": True, "drop_path_rate": 0.2},
        "keypoints": 14,
        "input_size": [640, 640],
        "heatmap_filters": 48,
    }


_VARIANTS: dict[str, dict[str, Any]] = {
    "hrvmamba-dekr-small": _crowd_pose("small"),
    "hrvmamba-dekr-base": _crowd_pose("base"),
    # What the bare name means: it trains on two cores.
    "dekr-mini": {
        "backbone": "hrvmamba-mini",
        "input_size": [96, 160],
        "heatmap_filters": 16,
        "displacement_filters": 4,
    },
}

FAMILY = FamilySpec(
    name="dekr",
    summary="DEKR, bottom-up pose by disentangled keypoint regression (arXiv 2104.02300) on any image encoder",
    config=".config:DEKRConfig",
    factory=".model:build",
    importer=".checkpoint:import_dekr",
    variants=_VARIANTS,
    default_variant="dekr-mini",
    head="bottom_up_pose",
    processors={"image": {**PERSON_CROP, "padding": 1.0}},
    tiny={
        "backbone": "hrvmamba",
        "backbone_config": {
            "channels": 8,
            "stem_channels": 8,
            "stage1_channels": 4,
            "stage1_blocks": 1,
            "num_modules": [1, 1, 1],
            "num_blocks": 1,
        },
        "input_size": [48, 32],
        "keypoints": 3,
        "heatmap_filters": 8,
        "displacement_filters": 2,
    },
    fields={"image_size": "input_size"},
    causal=False,
)

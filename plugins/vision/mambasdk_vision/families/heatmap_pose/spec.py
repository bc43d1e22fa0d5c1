"""The family `heatmap_pose`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import PERSON_CROP


def _hrvmamba(size: str, *input_size: int) -> dict[str, Any]:
    return {"backbone": f"hrvmamba-{size}-pose", "input_size": list(input_size)}


# Published models on HRVMamba (arXiv 2410.03174), by the size of a crop; COCO's 17 keypoints.
_VARIANTS: dict[str, dict[str, Any]] = {
    "hrvmamba-pose-tiny-256x192": _hrvmamba("tiny", 256, 192),
    "hrvmamba-pose-small-256x192": _hrvmamba("small", 256, 192),
    "hrvmamba-pose-small-384x288": _hrvmamba("small", 384, 288),
    "hrvmamba-pose-base-256x192": _hrvmamba("base", 256, 192),
    "hrvmamba-pose-base-384x288": _hrvmamba("base", 384, 288),
    # What the bare name means: it trains on two cores.
    "heatmap-pose-mini": {"backbone": "hrvmamba-mini", "input_size": [64, 48]},
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
        "keypoints": 5,
    },
    fields={"image_size": "input_size"},
    causal=False,
)

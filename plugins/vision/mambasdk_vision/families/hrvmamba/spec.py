"""The family `hrvmamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET

# Published shapes (arXiv 2410.03174): channels of the branch of stride 4, inside of the first bottlenecks.
_NANO = {"channels": 8, "stage1_channels": 16}
_TINY = {"channels": 16, "stage1_channels": 32}
_SMALL = {"channels": 32, "stage1_channels": 64}
_BASE = {"channels": 80, "stage1_channels": 64}


def _pose(drop_path_rate: float, ssm_drop_rate: float) -> dict[str, Any]:
    """A backbone of top-down pose estimation: one map of stride 4."""
    rates = {"drop_path_rate": drop_path_rate, "ssm_drop_rate": ssm_drop_rate}
    return {"task": "pose", "multiscale_output": False, "img_size": [256, 192], **rates}


_VARIANTS: dict[str, dict[str, Any]] = {
    "hrvmamba-nano": {**_NANO, "se_lpu": True, "drop_path_rate": 0.1},
    "hrvmamba-tiny": {**_TINY, "se_lpu": True, "drop_path_rate": 0.1},
    "hrvmamba-small": {**_SMALL, "drop_path_rate": 0.2},
    "hrvmamba-base": {**_BASE, "drop_path_rate": 0.2, "img_size": 224},
    "hrvmamba-tiny-pose": {**_TINY, **_pose(0.0, 0.0)},
    "hrvmamba-small-pose": {**_SMALL, **_pose(0.1, 0.1)},
    "hrvmamba-base-pose": {**_BASE, **_pose(0.6, 0.2)},
    "hrvmamba-base-seg": {**_BASE, "task": "segmentation", "drop_path_rate": 0.15, "img_size": 512},
    # What the bare name means: it trains on two cores.
    "hrvmamba-mini": {
        "channels": 16,
        "stem_channels": 32,
        "stage1_channels": 16,
        "stage1_blocks": 1,
        "num_modules": [1, 1, 1],
        "num_blocks": 1,
        "neck_channels": [32, 64, 128, 256],
        "neck_features": 256,
        "drop_path_rate": 0.05,
        "img_size": 64,
    },
}

FAMILY = FamilySpec(
    name="hrvmamba",
    summary="HRVMamba, parallel branches down from stride 4 with deformable 2-D scans (arXiv 2410.03174)",
    config=".config:HRVMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_hrvmamba",
    variants=_VARIANTS,
    default_variant="hrvmamba-mini",
    head="image_classification",
    processors={"image": IMAGENET},
    tiny={
        "channels": 8,
        "stem_channels": 8,
        "stage1_channels": 4,
        "stage1_blocks": 1,
        "num_modules": [1, 1, 1],
        "num_blocks": 1,
        "neck_channels": [8, 8, 16, 16],
        "neck_features": 24,
        "num_classes": 10,
    },
    fields={"image_size": "img_size"},
    causal=False,
)

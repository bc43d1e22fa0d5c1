"""The family `lightm_unet`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

_2D: dict[str, Any] = {"patch_size": [512, 512], "in_channels": 1, "num_classes": 2}
_3D: dict[str, Any] = {"patch_size": [128, 128, 128], "in_channels": 1, "num_classes": 3}

# The released code, and its first upload ("dense"), whose counts without Mamba are the paper's (arXiv 2403.05246).
_VARIANTS: dict[str, dict[str, Any]] = {
    "lightm-unet-2d": _2D,
    "lightm-unet-3d": _3D,
    "lightm-unet-2d-dense": {**_2D, "decoder": "dense"},
    "lightm-unet-3d-dense": {**_3D, "decoder": "dense"},
    # What the bare name means: it trains on two cores.
    "lightm-unet-mini": {"patch_size": [64, 64], "init_filters": 8, "blocks_down": [1, 1, 1, 1]},
}

FAMILY = FamilySpec(
    name="lightm_unet",
    summary="LightM-UNet, small U-Net with residual Mamba layers, 2-D and 3-D (arXiv 2403.05246)",
    config=".config:LightMUNetConfig",
    factory=".model:build",
    importer=".checkpoint:import_lightm_unet",
    variants=_VARIANTS,
    default_variant="lightm-unet-mini",
    head="medical_segmentation",
    tiny={
        "patch_size": [16, 16],
        "in_channels": 2,
        "num_classes": 3,
        "init_filters": 8,
        "blocks_down": [1, 1],
        "blocks_up": [1],
    },
    causal=False,
)

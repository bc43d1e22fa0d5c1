"""What the registry knows of VM-UNet V2: names and import strings only."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

_VARIANTS: dict[str, dict[str, Any]] = {
    "vm-unet-v2-isic": {"depths": [2, 2, 9, 2]},  # arXiv 2403.09157
    # What the bare name means: it trains on two cores.
    "vm-unet-v2-mini": {
        "dims": [24, 48, 96],
        "depths": [1, 1, 1],
        "mid_channel": 16,
        "d_state": 8,
        "drop_path_rate": 0.0,
        "patch_size": [128, 128],
    },
}

FAMILY = FamilySpec(
    name="vm_unet_v2",
    summary="VM-UNet V2, four-route 2-D scans and products of the maps of all levels (arXiv 2403.09157)",
    config=".config:VMUNetV2Config",
    factory=".model:build",
    importer=".checkpoint:import_vm_unet_v2",
    variants=_VARIANTS,
    default_variant="vm-unet-v2-mini",
    head="medical_segmentation",
    tiny={
        "dims": [8, 12],
        "depths": [1, 1],
        "mid_channel": 6,
        "d_state": 4,
        "drop_path_rate": 0.0,
        "patch_size": [16, 24],
        "in_channels": 1,
        "num_classes": 2,
    },
    causal=False,
)

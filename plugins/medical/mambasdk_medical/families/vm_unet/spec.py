"""What the registry knows of VM-UNet: names and import strings only."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Published shapes (arXiv 2402.02491): the ISIC configuration, that of the constructor's defaults, and Synapse.
_FULL = {"depths": [2, 2, 9, 2], "depths_decoder": [2, 9, 2, 2]}
_VARIANTS: dict[str, dict[str, Any]] = {
    "vm-unet-isic": {"depths": [2, 2, 2, 2], "depths_decoder": [2, 2, 2, 1]},
    "vm-unet-full": _FULL,
    "vm-unet-synapse": {
        "depths": [2, 2, 2, 2],
        "depths_decoder": [2, 2, 2, 1],
        "num_classes": 9,
        "in_channels": 1,
        "patch_size": [224, 224],
    },
    # What the bare name means: it trains on two cores.
    "vm-unet-mini": {
        "dims": [24, 48, 96],
        "depths": [1, 1, 1],
        "depths_decoder": [1, 1, 1],
        "d_state": 8,
        "drop_path_rate": 0.0,
        "patch_size": [128, 128],
    },
}

FAMILY = FamilySpec(
    name="vm_unet",
    summary="VM-UNet, a U-Net of four-route 2-D scans (arXiv 2402.02491)",
    config=".config:VMUNetConfig",
    factory=".model:build",
    importer=".checkpoint:import_vm_unet",
    variants=_VARIANTS,
    default_variant="vm-unet-mini",
    head="medical_segmentation",
    tiny={
        "dims": [8, 12],
        "depths": [1, 1],
        "depths_decoder": [1, 1],
        "d_state": 4,
        "drop_path_rate": 0.0,
        "patch_size": [16, 24],
        "in_channels": 1,
        "num_classes": 2,
    },
    causal=False,
)

"""What the registry knows of MHS-VM: names and import strings only."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Published shapes (arXiv 2406.05992), with the threshold of ISIC18.
_VARIANTS: dict[str, dict[str, Any]] = {
    "mhs-vm-3-heads": {"head_num": 3},
    "mhs-vm-4-heads": {"head_num": 4},
    # What the bare name means: it trains on two cores.
    "mhs-vm-mini": {
        "dims": [32, 64, 96],
        "depths": [1, 1, 1],
        "depths_decoder": [1, 1, 1],
        "d_state": 8,
        "drop_path_rate": 0.0,
        "patch_size": [128, 128],
    },
}
_TINY: dict[str, Any] = {
    "dims": [8, 12],
    "depths": [1, 1],
    "depths_decoder": [1, 1],
    "d_state": 4,
    "drop_path_rate": 0.0,
}

FAMILY = FamilySpec(
    name="mhs_vm",
    summary="MHS-VM, a U-Net whose heads scan along snakes, diagonals, spirals and rows (arXiv 2406.05992)",
    config=".config:MHSVMConfig",
    factory=".model:build",
    importer=".checkpoint:import_mhs_vm",
    variants={name: {"depths_decoder": [2, 2, 2, 1], **variant} for name, variant in _VARIANTS.items()},
    default_variant="mhs-vm-mini",
    head="medical_segmentation",
    tiny={**_TINY, "patch_size": [16, 24], "in_channels": 1, "num_classes": 2},
    causal=False,
)

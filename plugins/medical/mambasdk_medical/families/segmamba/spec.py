"""The family `segmamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

_VARIANTS: dict[str, dict[str, Any]] = {
    # BraTS 2023: four modalities, and three tumours beside the background (arXiv 2401.13560).
    "segmamba-brats": {},
    # What the bare name means: it trains on two cores.
    "segmamba-mini": {
        "patch_size": [32, 64, 64],
        "in_channels": 1,
        "num_classes": 3,
        "dims": [8, 16, 32, 64],
        "depths": [1, 1, 1, 1],
        "hidden_size": 96,
    },
}

FAMILY = FamilySpec(
    name="segmamba",
    summary="SegMamba, segmentation of volumes with tri-oriented scans (arXiv 2401.13560)",
    config=".config:SegMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_segmamba",
    variants=_VARIANTS,
    default_variant="segmamba-mini",
    head="medical_segmentation",
    tiny={
        "patch_size": [16, 16, 32],
        "in_channels": 2,
        "num_classes": 3,
        "dims": [4, 8],
        "depths": [1, 1],
        "num_slices": [8, 4],
        "hidden_size": 8,
        "d_state": 4,
    },
    causal=False,
)

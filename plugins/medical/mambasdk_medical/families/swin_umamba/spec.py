"""The family `swin_umamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

_SMALL: dict[str, Any] = {
    "dims": [24, 48, 96],
    "depths": [1, 1, 1],
    "d_state": 8,
    "drop_path_rate": 0.0,
    "patch_size": [128, 128],
}

# Published shapes (arXiv 2402.03302) for one channel and fourteen classes, as of the abdominal data sets.
_VARIANTS: dict[str, dict[str, Any]] = {
    "swin-umamba": {"num_classes": 14},
    "swin-umamba-d": {"num_classes": 14, "decoder": "scans", "drop_path_rate": 0.2},
    # The first is what the bare name means: both train on two cores.
    "swin-umamba-mini": {**_SMALL, "stem_width": 12},
    "swin-umamba-d-mini": {**_SMALL, "decoder": "scans"},
}

FAMILY = FamilySpec(
    name="swin_umamba",
    summary="Swin-UMamba (D), a U-Net on the encoder of VMamba with its ImageNet weights (arXiv 2402.03302)",
    config=".config:SwinUMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_swin_umamba",
    variants=_VARIANTS,
    default_variant="swin-umamba-mini",
    head="medical_segmentation",
    tiny={
        "patch_size": [16, 16],
        "in_channels": 1,
        "num_classes": 3,
        "stem_width": 4,
        "dims": [6, 8],
        "depths": [1, 1],
        "d_state": 4,
        "drop_path_rate": 0.0,
    },
    causal=False,
)

"""The family `nnmamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Sizes of arXiv 2402.03526: segmentation, and classification of brain volumes.
_VARIANTS: dict[str, dict[str, Any]] = {
    "nnmamba-seg": {"patch_size": [96, 96, 96], "num_classes": 6},
    "nnmamba-cls": {"task": "classification", "patch_size": [112, 144, 112], "num_classes": 2},
    # What the bare name means: it trains on two cores.
    "nnmamba-mini": {"patch_size": [32, 64, 64], "channels": 8, "num_classes": 3},
}

FAMILY = FamilySpec(
    name="nnmamba",
    summary="nnMamba, residual network of volumes with shared Mamba layers (arXiv 2402.03526)",
    config=".config:NnMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_nnmamba",
    variants=_VARIANTS,
    default_variant="nnmamba-mini",
    head="medical_segmentation",
    tiny={
        "patch_size": [16, 16, 16],
        "in_channels": 2,
        "num_classes": 3,
        "channels": 2,
        "blocks": 3,
        "d_state": 4,
    },
    causal=False,
)

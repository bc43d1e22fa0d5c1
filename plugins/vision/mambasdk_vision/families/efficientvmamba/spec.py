"""The family `efficientvmamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET

_VARIANTS: dict[str, dict[str, Any]] = {
    # Published shapes (arXiv 2403.09977). The paper's table says 96 channels for the small one; the published counts,
    # its training log and the released file say 64.
    "efficientvmamba-tiny": {"dims": 48, "depths": [2, 2, 4, 2], "drop_path_rate": 0.1},
    "efficientvmamba-small": {"dims": 64, "depths": [2, 2, 4, 2], "drop_path_rate": 0.1},
    "efficientvmamba-base": {"dims": 96, "depths": [2, 2, 9, 2], "drop_path_rate": 0.1},
    # What the bare name means: it trains on two cores.
    "efficientvmamba-mini": {"dims": 32, "depths": [1, 1, 2, 1], "drop_path_rate": 0.1},
}

FAMILY = FamilySpec(
    name="efficientvmamba",
    summary="EfficientVMamba, light encoder of skip-sampled scans and convolutions (arXiv 2403.09977)",
    config=".config:EfficientVMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_efficientvmamba",
    variants=_VARIANTS,
    default_variant="efficientvmamba-mini",
    head="image_classification",
    processors={"image": IMAGENET},
    tiny={"dims": 8, "depths": [1, 1, 1, 1], "num_classes": 10},
    fields={"image_size": "imgsize"},
    causal=False,
)

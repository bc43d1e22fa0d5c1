"""The family `plainmamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET

# Published shapes (arXiv 2403.17695).
_VARIANTS: dict[str, dict[str, Any]] = {
    "plainmamba-l1": {"embed_dims": 192, "drop_path_rate": 0.2},
    "plainmamba-l2": {
        "embed_dims": 384,
        "num_convs_patch_embed": 2,
        "layers_with_dwconv": [],
        "drop_path_rate": 0.2,
    },
    "plainmamba-l3": {
        "embed_dims": 448,
        "num_layers": 36,
        "num_convs_patch_embed": 2,
        "layers_with_dwconv": [],
        "drop_path_rate": 0.4,
    },
    # What the bare name means: it trains on two cores.
    "plainmamba-mini": {"embed_dims": 96, "num_layers": 8},
}

FAMILY = FamilySpec(
    name="plainmamba",
    summary="PlainMamba, image encoder of one width with snake scans (arXiv 2403.17695)",
    config=".config:PlainMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_plainmamba",
    variants=_VARIANTS,
    default_variant="plainmamba-mini",
    head="image_classification",
    processors={"image": IMAGENET},
    tiny={"img_size": 32, "patch_size": 8, "num_layers": 2, "embed_dims": 16, "d_state": 4, "num_classes": 10},
    fields={"image_size": "img_size"},
    causal=False,
)

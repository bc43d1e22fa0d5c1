"""The family `medmamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET


def _model(dims: int, middle: int) -> dict[str, Any]:
    return {"dims": dims, "depths": [2, 2, middle, 2], "drop_path_rate": 0.1}


# Published shapes (arXiv 2403.03849), with the configuration's six classes.
_VARIANTS = {
    "medmamba-t": _model(96, 4),
    "medmamba-s": _model(96, 8),
    "medmamba-b": _model(128, 12),
    # What the bare name means: it trains on two cores.
    "medmamba-mini": {"dims": 32, "depths": [1, 1, 2, 1], "drop_path_rate": 0.1},
}

FAMILY = FamilySpec(
    name="medmamba",
    summary="MedMamba, classes of medical images by convolutions beside four-route scans (arXiv 2403.03849)",
    config=".config:MedMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_medmamba",
    variants=_VARIANTS,
    default_variant="medmamba-mini",
    head="image_classification",
    processors={"image": IMAGENET},
    tiny={"dims": 8, "depths": [1, 1, 1, 1], "d_state": 4, "num_classes": 10},
    fields={"image_size": "imgsize"},
    causal=False,
)

"""The family `vssd`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET


def _variant(
    embed_dim: int, depths: list[int], first_heads: int, d_state: int, drop_path_rate: float
) -> dict[str, Any]:
    return {
        "embed_dim": embed_dim,
        "depths": depths,
        "num_heads": [first_heads << stage for stage in range(4)],
        "d_state": d_state,
        "drop_path_rate": drop_path_rate,
    }


# Published shapes (arXiv 2407.18559).
_VARIANTS = {
    "vssd-micro": _variant(48, [2, 2, 8, 4], 2, 48, 0.1),
    "vssd-tiny": _variant(64, [2, 4, 8, 4], 2, 64, 0.2),
    "vssd-small": _variant(64, [3, 4, 21, 5], 2, 64, 0.4),
    "vssd-base": _variant(96, [3, 4, 21, 5], 3, 64, 0.6),
    # What the bare name means: it trains on two cores.
    "vssd-mini": _variant(32, [1, 1, 2, 1], 2, 32, 0.1),
}

FAMILY = FamilySpec(
    name="vssd",
    summary="VSSD, hierarchical encoder with non-causal state space duality (arXiv 2407.18559)",
    config=".config:VSSDConfig",
    factory=".model:build",
    importer=".checkpoint:import_vssd",
    variants=_VARIANTS,
    default_variant="vssd-mini",
    head="image_classification",
    processors={"image": IMAGENET},
    tiny={
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [2, 2, 4, 4],
        "d_state": 4,
        "mlp_ratio": 2.0,
        "num_classes": 10,
    },
    fields={"image_size": "imgsize"},
    causal=False,
)

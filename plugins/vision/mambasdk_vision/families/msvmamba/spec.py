"""The family `msvmamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET


def _first(dims: int, depths: list[int], drop_path_rate: float = 0.2) -> dict[str, Any]:
    return {
        "version": "v1",
        "dims": dims,
        "depths": depths,
        "ssm_ratio": 2.0,
        "gate": True,
        "ffn_ratio": 2.0,
        "drop_path_rate": drop_path_rate,
    }


def _third(dims: int, depths: list[int], drop_path_rate: float, *, gate: bool = False) -> dict[str, Any]:
    return {
        "version": "v3",
        "dims": dims,
        "depths": depths,
        "ssm_ratio": 1.0,
        "gate": gate,
        "ffn_ratio": 4.0,
        "drop_path_rate": drop_path_rate,
    }


# Published shapes: v1 is the paper's (arXiv 2405.14174), v3 the authors' later one.
_VARIANTS = {
    "msvmamba-nano": _first(48, [1, 2, 5, 2]),
    "msvmamba-micro": _first(64, [1, 2, 5, 2]),
    "msvmamba-tiny": _first(96, [1, 2, 9, 2]),
    "msvmamba-v3-tiny": _third(96, [2, 2, 9, 2], 0.2),
    "msvmamba-v3-small": _third(96, [2, 3, 20, 2], 0.4),
    "msvmamba-v3-base": _third(128, [2, 4, 18, 2], 0.5, gate=True),
    # What the bare name means: it trains on two cores.
    "msvmamba-mini": _third(32, [1, 1, 2, 1], 0.1),
}

FAMILY = FamilySpec(
    name="msvmamba",
    summary="MSVMamba, hierarchical encoder that scans maps at two resolutions (arXiv 2405.14174)",
    config=".config:MSVMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_msvmamba",
    variants=_VARIANTS,
    default_variant="msvmamba-mini",
    head="image_classification",
    processors={"image": IMAGENET},
    tiny={**_first(8, [1, 1, 1, 1], 0.0), "num_classes": 10},
    fields={"image_size": "imgsize"},
    causal=False,
)

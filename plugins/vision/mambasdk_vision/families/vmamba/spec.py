"""The family `vmamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET


def _vanilla(dims: int, middle: int, drop_path_rate: float) -> dict[str, Any]:
    return {
        "dims": dims,
        "depths": [2, 2, middle, 2],
        "forward_type": "v0",
        "ssm_d_state": 16,
        "ssm_ratio": 2.0,
        "ssm_conv_bias": True,
        "mlp_ratio": 0.0,
        "patchembed_version": "v1",
        "downsample_version": "v1",
        "drop_path_rate": drop_path_rate,
    }


def _second(dims: int, middle: int, ssm_ratio: float, drop_path_rate: float) -> dict[str, Any]:
    return {
        "dims": dims,
        "depths": [2, 2, middle, 2],
        "forward_type": "v05_noz",
        "ssm_d_state": 1,
        "ssm_ratio": ssm_ratio,
        "ssm_conv_bias": False,
        "mlp_ratio": 4.0,
        "patchembed_version": "v2",
        "downsample_version": "v3",
        "drop_path_rate": drop_path_rate,
    }


# Published shapes (arXiv 2401.10166); s and l are the SSM ratio and the depth of the third stage.
_VARIANTS = {
    "vmamba-tiny-vanilla": _vanilla(96, 9, 0.2),
    "vmamba-small-vanilla": _vanilla(96, 27, 0.3),
    "vmamba-base-vanilla": _vanilla(128, 27, 0.6),
    "vmamba-tiny-s2l5": _second(96, 5, 2.0, 0.2),
    "vmamba-small-s2l15": _second(96, 15, 2.0, 0.3),
    "vmamba-base-s2l15": _second(128, 15, 2.0, 0.6),
    "vmamba-tiny-s1l8": _second(96, 8, 1.0, 0.2),
    "vmamba-small-s1l20": _second(96, 20, 1.0, 0.3),
    "vmamba-base-s1l20": _second(128, 20, 1.0, 0.5),
    # What the bare name means: it trains on two cores.
    "vmamba-mini": {**_second(32, 2, 1.0, 0.1), "depths": [1, 1, 2, 1]},
}

FAMILY = FamilySpec(
    name="vmamba",
    summary="VMamba, hierarchical encoder with four-route 2-D scans (arXiv 2401.10166)",
    config=".config:VMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_vmamba",
    variants=_VARIANTS,
    default_variant="vmamba-mini",
    head="image_classification",
    processors={"image": IMAGENET},
    tiny={"dims": 8, "depths": [1, 1, 1, 1], "num_classes": 10},
    fields={"image_size": "imgsize"},
    causal=False,
)

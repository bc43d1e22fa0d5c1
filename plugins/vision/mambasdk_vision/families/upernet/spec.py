"""The family `upernet`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET

# Segmenters of ADE20K whose papers give them: each is named after its encoder.
_PUBLISHED = (
    "vmamba-tiny-vanilla",
    "vmamba-small-vanilla",
    "vmamba-base-vanilla",
    "vmamba-tiny-s1l8",
    "vmamba-small-s2l15",
    "vmamba-base-s2l15",
)
_VARIANTS: dict[str, dict[str, Any]] = {f"upernet-{backbone}": {"backbone": backbone} for backbone in _PUBLISHED}
# arXiv 2401.09417: no class token; the head is as wide as the encoder. The smaller one takes the mixers' branches.
for _name, _width, _stream in (("vim-tiny", 192, "mixer"), ("vim-small", 384, "residual")):
    _VARIANTS[f"upernet-{_name}"] = {
        "backbone": _name,
        "backbone_config": {"task": "segmentation", "class_token": "none", "feature_stream": _stream},
        "channels": _width,
    }
# What the bare name means: it trains on two cores.
_VARIANTS["upernet-mini"] = {
    "backbone": "vmamba-mini",
    "image_size": 64,
    "channels": 32,
    "auxiliary_channels": 32,
}

FAMILY = FamilySpec(
    name="upernet",
    summary="UPerNet, semantic segmentation on any image encoder (arXiv 1807.10221)",
    config=".config:UPerNetConfig",
    factory=".model:build",
    importer=".checkpoint:import_upernet",
    variants=_VARIANTS,
    default_variant="upernet-mini",
    head="semantic_segmentation",
    # The whole image, stretched: the class map covers all of it.
    processors={"image": {**IMAGENET, "size": 512, "resize": "exact", "crop_pct": 1.0, "interpolation": "bilinear"}},
    tiny={
        "backbone": "vmamba",
        "backbone_config": {"dims": 8, "depths": [1, 1, 1, 1]},
        "num_classes": 5,
        "image_size": 64,
        "channels": 8,
        "auxiliary_channels": 8,
    },
    causal=False,
)

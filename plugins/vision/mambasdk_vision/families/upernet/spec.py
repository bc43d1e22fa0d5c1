"""The family `upernet`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET

# Segmenters of ADE20K that the encoders' papers publish (arXiv 2401.10166, 2405.14174, 2407.18559, 2410.03174).
_PUBLISHED = (
    *("vmamba-tiny-vanilla", "vmamba-small-vanilla", "vmamba-base-vanilla"),
    *("vmamba-tiny-s1l8", "vmamba-small-s2l15", "vmamba-base-s2l15"),
    *("msvmamba-micro", "msvmamba-tiny", "msvmamba-v3-tiny"),
    *("vssd-micro", "vssd-tiny", "hrvmamba-base-seg"),
)
_SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {} for name in _PUBLISHED},
    # arXiv 2403.17695: the auxiliary head sees the last map.
    **{f"plainmamba-{size}": {"auxiliary_index": 3} for size in ("l1", "l2", "l3")},
    # arXiv 2403.09977; the smaller ones have the width of the head that gives the published counts.
    "efficientvmamba-tiny": {"channels": 256},
    "efficientvmamba-small": {"channels": 384},
    "efficientvmamba-base": {},
    # arXiv 2401.09417: the head is as wide as the encoder; the smaller one takes the branches of the mixers.
    "vim-tiny": {"backbone_config": {"task": "segmentation", "feature_stream": "mixer"}, "channels": 192},
    "vim-small": {"backbone_config": {"task": "segmentation", "feature_stream": "residual"}, "channels": 384},
}
_VARIANTS: dict[str, dict[str, Any]] = {
    f"upernet-{encoder}": {"backbone": encoder, **settings} for encoder, settings in _SETTINGS.items()
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

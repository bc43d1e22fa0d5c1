"""The family `residual_unet`: its models by name."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec
from mambasdk_medical.plans.published import PLANS

FAMILY = FamilySpec(
    name="residual_unet",
    summary="residual U-Net of nnU-Net's shape, 2-D and 3-D: the frame of U-Mamba and xLSTM-UNet without their layers",
    config=".config:ResidualUNetConfig",
    factory=".model:build",
    importer=".checkpoint:import_residual_unet",
    variants={
        **{f"residual-unet-{name}": plan for name, plan in PLANS.items()},
        # What the bare name means: it trains on two cores.
        "residual-unet-mini": {"patch_size": [64, 64], "features_per_stage": [8, 16, 32, 64]},
    },
    default_variant="residual-unet-mini",
    head="medical_segmentation",
    tiny={"patch_size": [16, 16], "features_per_stage": [4, 6, 8], "num_classes": 3},
    causal=False,
)

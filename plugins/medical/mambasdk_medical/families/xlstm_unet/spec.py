"""The family `xlstm_unet`: its models by name."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec
from mambasdk_medical.plans.published import PLANS

# The plans of U-Mamba, as arXiv 2407.01530 has them.
_VARIANTS = {
    f"xlstm-unet-{placement}-{name}": {**plan, "placement": placement}
    for placement in ("bot", "enc")
    for name, plan in PLANS.items()
}

FAMILY = FamilySpec(
    name="xlstm_unet",
    summary="xLSTM-UNet, residual U-Net with Vision-LSTM layers, 2-D and 3-D (arXiv 2407.01530)",
    config=".config:XLSTMUNetConfig",
    factory=".model:build",
    importer=".checkpoint:import_xlstm_unet",
    # The bare name means a small one: it trains on two cores.
    variants={**_VARIANTS, "xlstm-unet-mini": {"patch_size": [64, 64], "features_per_stage": [8, 16, 32, 64]}},
    default_variant="xlstm-unet-mini",
    head="medical_segmentation",
    tiny={"patch_size": [16, 16], "features_per_stage": [4, 6, 8], "num_classes": 3},
    causal=False,
)

"""The family `u_mamba`: its models by name."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec
from mambasdk_medical.plans.published import PLANS

# Published plans (arXiv 2401.04722, nnU-Net's defaults).
_VARIANTS = {
    f"u-mamba-{placement}-{name}": {**plan, "placement": placement}
    for placement in ("bot", "enc")
    for name, plan in PLANS.items()
}

FAMILY = FamilySpec(
    name="u_mamba",
    summary="U-Mamba, residual U-Net with Mamba layers, 2-D and 3-D (arXiv 2401.04722)",
    config=".config:UMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_u_mamba",
    # The bare name means a small one: it trains on two cores.
    variants={**_VARIANTS, "u-mamba-mini": {"patch_size": [64, 64], "features_per_stage": [8, 16, 32, 64]}},
    default_variant="u-mamba-mini",
    head="medical_segmentation",
    tiny={"patch_size": [16, 16], "features_per_stage": [4, 6, 8], "d_state": 4, "num_classes": 3},
    causal=False,
)

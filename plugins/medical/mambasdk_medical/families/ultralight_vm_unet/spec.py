"""The family `ultralight_vm_unet`: its models by name."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec

FAMILY = FamilySpec(
    name="ultralight_vm_unet",
    summary="UltraLight VM-UNet, lesions with one Mamba mixer for four parts of the channels (arXiv 2403.20035)",
    config=".config:UltraLightVMUNetConfig",
    factory=".model:build",
    importer=".checkpoint:import_ultralight_vm_unet",
    # The published sizes train on two cores: they are what the bare name means too.
    variants={"ultralight-vm-unet": {}},
    default_variant="ultralight-vm-unet",
    head="medical_segmentation",
    tiny={"patch_size": [32, 32], "in_channels": 1, "num_classes": 2, "widths": [8, 8, 8, 8, 12, 16], "d_state": 4},
    causal=False,
)

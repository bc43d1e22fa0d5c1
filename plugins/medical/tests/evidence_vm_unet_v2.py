"""VM-UNet V2: the published count, and what holds for all; test_vm_unet_v2.py has a computation in single steps."""

from __future__ import annotations

from pathlib import Path

from mambasdk.testing import families

# Upstream's last stage and one transposed convolution have no effect, and the coarser levels' ends only in training.
_IDLE = [
    *(f"vmunet.layers.1.blocks.0.ln_1.{name}" for name in ("weight", "bias")),
    *(
        f"vmunet.layers.1.blocks.0.self_attention.{name}"
        for name in (
            "x_proj_weight",
            "dt_projs_weight",
            "dt_projs_bias",
            "A_logs",
            "Ds",
            "in_proj.weight",
            "conv2d.weight",
            "conv2d.bias",
            "out_norm.weight",
            "out_norm.bias",
            "out_proj.weight",
        )
    ),
    "deconv3.weight",
]

EVIDENCE = (
    families.Evidence(
        "vm_unet_v2",
        dear=["test_compiled_model_takes_any_size"],  # minutes of tracing
        forms={
            "three levels": {"dims": [8, 8, 16], "depths": [1, 1, 1], "patch_size": [16, 32], "num_classes": 1},
            "one output": {"deep_supervision": False, "in_channels": 3},
        },
        counts={"vm-unet-v2-isic": 22_770_934},  # of the authors' code
        idle=_IDLE,
    ),
)


def write_golden(root: Path) -> None:
    """No golden tensors are read."""

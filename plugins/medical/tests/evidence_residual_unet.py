"""The plain residual U-Net: its counts are those of U-Mamba less the Mamba layer, and what holds for all."""

from __future__ import annotations

from pathlib import Path

import unet_golden

from mambasdk.testing import families

EVIDENCE = (
    families.Evidence(
        "residual_unet",
        forms={
            "volume": {
                "patch_size": [4, 8, 8],
                "features_per_stage": [2, 4, 8],
                "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
                "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            },
        },
        # Steps at lower resolution have logits for training alone.
        idle=["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"],
        equal=unet_golden.EQUAL,
    ),
)


def write_golden(root: Path) -> None:
    """No golden tensors are of this family: its frame is U-Mamba's, whose are."""

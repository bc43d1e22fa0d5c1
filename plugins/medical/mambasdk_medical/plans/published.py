"""Plans that results are published with: U-Mamba's (arXiv 2401.04722), which xLSTM-UNet took over. Imports no torch."""

from __future__ import annotations

from typing import Any

_WIDTH, _WIDEST_2D, _WIDEST_3D = 32, 512, 320  # nnU-Net's: they double from stage to stage


def _plan(in_channels: int, num_classes: int, patch_size: list[int], stages: int) -> dict[str, Any]:
    widest = _WIDEST_2D if len(patch_size) == 2 else _WIDEST_3D
    return {
        "patch_size": patch_size,
        "in_channels": in_channels,
        "num_classes": num_classes,
        "features_per_stage": [min(_WIDTH << stage, widest) for stage in range(stages)],
    }


# Overrides of a residual U-Net's configuration, by dimensions and data: abdomen in magnetic resonance, microscopy of
# cells, endoscopy.
PLANS: dict[str, dict[str, Any]] = {
    "2d-mr": _plan(1, 14, [320, 320], 7),
    "2d-cell": _plan(3, 3, [512, 512], 8),
    "2d-endoscopy": _plan(3, 8, [384, 640], 7),
    "3d-mr": {
        **_plan(1, 14, [48, 160, 224], 6),
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
        "kernel_sizes": [[1, 3, 3], *([3, 3, 3] for _ in range(5))],
    },
}

"""U-Mamba: the authors' golden tensors, counts of the published plans, and what holds for all."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import unet_golden

from mambasdk.testing import families
from mambasdk.testing.golden import Golden, Recorded, Tensors


def run_u_mamba(model: Any, given: Recorded) -> Tensors:
    """The deepest Mamba layer's map is recorded too."""
    layer = unet_golden.deepest(model, "mamba_layer", "encoder.mamba_layers")
    taps = {f"mid.mamba_layer_{side}": (layer, side) for side in ("in", "out")}
    return unet_golden.run(model, given, taps)


U_MAMBA = Golden(
    system="u-mamba",
    cases=unet_golden.cases,
    checkpoint=unet_golden.checkpoint,
    recorded=unet_golden.recorded,
    run=run_u_mamba,
    **unet_golden.TOLERANCES,
)
_VOLUME = {
    "patch_size": [4, 8, 8],
    "features_per_stage": [2, 4, 8],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
}

EVIDENCE = (
    families.Evidence(
        "u_mamba",
        goldens=[U_MAMBA],
        forms={
            "enc": {"placement": "enc", "features_per_stage": [4, 6, 8, 8], "n_conv_per_stage": [2, 1, 1, 1]},
            "volume": _VOLUME,
            "volume, enc": {**_VOLUME, "placement": "enc"},
        },
        # Steps at lower resolution have logits for training alone.
        idle=["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"],
        equal=unet_golden.EQUAL,
        counts={  # plans of arXiv 2401.04722
            "u-mamba-bot-2d-mr": 47_533_012,
            "u-mamba-enc-2d-mr": 47_015_538,
            "u-mamba-bot-2d-cell": 64_797_301,
            "u-mamba-enc-2d-cell": 64_014_261,
            "u-mamba-bot-2d-endoscopy": 47_524_592,
            "u-mamba-enc-2d-endoscopy": 47_680_592,
            "u-mamba-bot-3d-mr": 41_945_158,
            "u-mamba-enc-3d-mr": 42_842_798,
        },
        shapes={"u-mamba-bot-3d-mr": partial(unet_golden.shapes, "u-mamba/state_dict_shapes.json")},
    ),
)


def write_golden(root: Path) -> None:
    """The folder `u-mamba` of other sizes."""
    unet_golden.write(root, U_MAMBA, "u_mamba", seed=11)

"""xLSTM-UNet: the authors' golden tensors, counts of the published plans, and what holds for all."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import unet_golden

from mambasdk.testing import families
from mambasdk.testing.golden import Golden, Recorded, Tensors


def run_xlstm_unet(model: Any, given: Recorded) -> Tensors:
    """The deepest ViL layer's map is recorded too."""
    layer = unet_golden.deepest(model, "xlstm", "encoder.xlstm_layers")
    taps = {f"mid.vil_{side}": (layer, side) for side in ("in", "out")}
    return unet_golden.run(model, given, taps)


def _maps(folder: Path, case: str) -> Tensors:
    """Without what lies inside the cell, which the tests of `mambasdk.nn.ViLBlock` look at."""
    found = unet_golden.recorded(folder, case)
    return {name: tensor for name, tensor in found.items() if not name.startswith("mid.mlstm_")}


XLSTM_UNET = Golden(
    system="xlstm-unet",
    cases=unet_golden.cases,
    checkpoint=unet_golden.checkpoint,
    recorded=_maps,
    run=run_xlstm_unet,
    **unet_golden.TOLERANCES,
)
_VOLUME = {
    "patch_size": [4, 8, 8],
    "features_per_stage": [2, 4, 8],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
}
_DEEP_VOLUME = {
    "patch_size": [8, 16, 16],
    "features_per_stage": [2, 4, 4, 6],
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
}

EVIDENCE = (
    families.Evidence(
        "xlstm_unet",
        goldens=[XLSTM_UNET],
        forms={
            "enc": {"placement": "enc", "features_per_stage": [2, 4, 8, 8, 6], "patch_size": [32, 32]},
            "volume": _VOLUME,
            "volume, enc": {**_DEEP_VOLUME, "placement": "enc"},
        },
        # Steps at lower resolution have logits for training alone; the layer's outer norm is never applied.
        idle=["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias", "xlstm.norm.weight", "xlstm.norm.bias"],
        equal=unet_golden.EQUAL,
        # The frame's: with the ViL layer in float32 the error of this tiny net is 0.068, with it in bfloat16 0.066.
        bfloat16=0.1,
        counts={  # arXiv 2407.01530, plans of U-Mamba
            "xlstm-unet-bot-2d-mr": 47_455_708,
            "xlstm-unet-enc-2d-mr": 47_021_771,
            "xlstm-unet-bot-2d-cell": 64_719_997,
            "xlstm-unet-enc-2d-cell": 64_010_653,
            "xlstm-unet-bot-2d-endoscopy": 47_447_288,
            "xlstm-unet-enc-2d-endoscopy": 47_658_052,
            "xlstm-unet-bot-3d-mr": 41_912_206,
            "xlstm-unet-enc-3d-mr": 43_729_644,
        },
        shapes={"xlstm-unet-bot-3d-mr": partial(unet_golden.shapes, "xlstm-unet/state_dict_shapes.json")},
    ),
)


def write_golden(root: Path) -> None:
    """The folder `xlstm-unet` of other sizes."""
    unet_golden.write(root, XLSTM_UNET, "xlstm_unet", seed=13)

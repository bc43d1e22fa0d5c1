"""Swin-UMamba: the published count, and what holds for all."""

from __future__ import annotations

from pathlib import Path

from mambasdk.testing import families

EVIDENCE = (
    families.Evidence(
        "swin_umamba",
        dear=["test_compiled_model_takes_any_size"],  # tracing with free sizes
        forms={
            "scans": {"decoder": "scans", "decoder_depth": 1},
            "scans, three stages, colour": {
                "decoder": "scans",
                "dims": [4, 6, 8],
                "depths": [1, 2, 1],
                "in_channels": 3,
                "num_classes": 1,
            },
            "three stages, colour": {
                "dims": [4, 6, 8],
                "depths": [1, 2, 1],
                "in_channels": 3,
                "num_classes": 1,
                "patch_size": [16, 32],
            },
        },
        counts={"swin-umamba": 59_889_368},  # from one channel to fourteen classes
        idle=["out_layers.1.conv.conv.weight", "out_layers.1.conv.conv.bias"],  # of deep supervision alone
    ),
)


def write_golden(root: Path) -> None:
    """None: no tensors of the authors' code are recorded; test_swin_umamba.py has the definition in loops."""

"""Top-down pose: parameters of the published models, and what holds for all families."""

from __future__ import annotations

from pathlib import Path

from mambasdk.testing import families

# Without the encoder: 17 maps from its C channels.
_HEAD = {"tiny": 17 * 16 + 17, "small": 17 * 32 + 17, "base": 17 * 80 + 17}
_BACKBONE = {"tiny": 2_151_008, "small": 8_033_840, "base": 47_099_616}  # arXiv 2410.03174: 2M, 8M, 47M


def _counts(size: str) -> dict[str, int]:
    return {"backbone": _BACKBONE[size], "head": _HEAD[size], "": _BACKBONE[size] + _HEAD[size]}


EVIDENCE = (
    families.Evidence(
        "heatmap_pose",
        dear=["test_compiled_model_takes_any_size"],  # as of its encoder
        forms={
            "VMamba": {
                "backbone": "vmamba",
                "backbone_config": {"dims": 8, "depths": [1, 1], "out_indices": [0]},
                "input_size": [40, 24],
            },
        },
        counts={
            "hrvmamba-pose-tiny-256x192": _counts("tiny"),
            "hrvmamba-pose-small-256x192": _counts("small"),
            "hrvmamba-pose-small-384x288": _counts("small"),
            "hrvmamba-pose-base-256x192": _counts("base"),
            "hrvmamba-pose-base-384x288": _counts("base"),
        },
    ),
)


def write_golden(root: Path) -> None:
    """There are no golden tensors of whole pose models; the encoders have theirs."""

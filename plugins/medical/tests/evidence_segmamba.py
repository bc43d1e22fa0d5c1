"""SegMamba: the published number of parameters, and what holds for all; test_segmamba.py recomputes the mixer."""

from __future__ import annotations

from pathlib import Path

from mambasdk.testing import families

EVIDENCE = (
    families.Evidence(
        "segmamba",
        dear=["test_compiled_model_takes_any_size"],  # tracing with free sizes
        forms={
            "three stages": {
                "patch_size": [16, 24, 16],
                "dims": [4, 6, 8],
                "depths": [1, 2, 1],
                "num_slices": [1, 6, 3],
            },
        },
        counts={"segmamba-brats": 67_416_196},
    ),
)


def write_golden(root: Path) -> None:
    """Nothing: there are no tensors of another implementation."""

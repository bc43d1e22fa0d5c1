"""nnMamba: the published number of parameters, and what holds for all; test_nnmamba.py recomputes the mean of flips."""

from __future__ import annotations

from pathlib import Path

from mambasdk.testing import families

EVIDENCE = (
    families.Evidence(
        "nnmamba",
        dear=["test_compiled_model_takes_any_size"],  # tracing with free sizes
        forms={
            "classification": {"task": "classification", "patch_size": [17, 12, 20]},
            "two blocks, logits of ReLU": {"blocks": 2, "relu_logits": True, "channels": 4},
        },
        counts={"nnmamba-seg": 15_944_958},
    ),
)


def write_golden(root: Path) -> None:
    """Nothing: there are no tensors of another implementation."""

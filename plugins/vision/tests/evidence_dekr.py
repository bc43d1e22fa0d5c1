"""DEKR: sizes of the models for CrowdPose, and what holds for all families."""

from __future__ import annotations

from pathlib import Path

from mambasdk.testing import families

EVIDENCE = (families.Evidence("dekr", dear=["test_compiled_model_takes_any_size"]),)  # as of its encoder


def write_golden(root: Path) -> None:
    """There are no golden tensors of whole pose models; the encoders have theirs."""

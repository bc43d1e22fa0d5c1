"""DEKR: sizes of the models for CrowdPose, and what holds for all families."""

from __future__ import annotations

from pathlib import Path

from mambasdk.testing import families

EVIDENCE = (families.Evidence("dekr"),)


def write_golden(root: Path) -> None:
    """There are no golden tensors of whole pose models; the encoders have theirs."""

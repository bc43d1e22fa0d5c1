"""UPerNet: what holds for it on an encoder of a pyramid and on one of a single stride."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mambasdk.plugins import get_host
from mambasdk.testing import families

_SINGLE: dict[str, Any] = {"backbone": "vim", "backbone_config": dict(get_host().family("vim").tiny), "image_size": 64}
_OF_TRAINING = ("convs.0.conv.weight", "convs.0.bn.weight", "convs.0.bn.bias", "conv_seg.weight", "conv_seg.bias")

EVIDENCE = (
    families.Evidence(
        "upernet",
        forms={"vim": _SINGLE, "no auxiliary head": {"auxiliary_channels": 0, "pool_scales": [1, 2]}},
        idle=[f"auxiliary_head.{name}" for name in _OF_TRAINING],
        dear=["test_compiled_model_takes_any_size"],  # as of its encoder
    ),
)


def write_golden(root: Path) -> None:
    """There is no set of another implementation; test_upernet.py has the definition."""

"""Checkpoints of the plain residual U-Net as nnU-Net's trainers write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint
from mambasdk_medical.residual_unet_checkpoint import unet_settings, unet_tensors


def import_residual_unet(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensors. config: of any form that `unet_settings` takes."""
    return unet_settings(config), unet_tensors(weights)

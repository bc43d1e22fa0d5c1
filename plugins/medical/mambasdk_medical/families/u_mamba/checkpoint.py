"""Checkpoints of U-Mamba as nnU-Net's trainers write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint
from mambasdk_medical.residual_unet_checkpoint import placement, unet_settings, unet_tensors


def import_u_mamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensors. config: of any form that `unet_settings` takes; the placement is the file's own."""
    settings = unet_settings(config, extra=("d_state", "d_conv", "expand"))
    place = placement(config, weights, bot="mamba_layer.", enc="encoder.mamba_layers.")
    return {**settings, "placement": place}, unet_tensors(weights)

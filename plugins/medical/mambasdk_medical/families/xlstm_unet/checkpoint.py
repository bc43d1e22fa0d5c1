"""Checkpoints of xLSTM-UNet as nnU-Net's trainers write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.models import Checkpoint
from mambasdk_medical.residual_unet_checkpoint import placement, unet_settings, unet_tensors

_INNER_NORM = ".vil.norm.weight"


def import_xlstm_unet(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensors. config: of any form that `unet_settings` takes; the placement is the file's own.

    Norms of the wrapper, which nothing applies, may be missing: they are made as they begin.
    """
    place = placement(config, weights, bot="xlstm.", enc="encoder.xlstm_layers.")
    found = unet_tensors(weights)
    tensors: dict[str, Tensor] = {name: found[name] for name in found}
    for name in found:
        if name.endswith(_INNER_NORM):
            norm = f"{name.removesuffix(_INNER_NORM)}.norm"
            tensors.setdefault(f"{norm}.weight", torch.ones_like(tensors[name]))
            tensors.setdefault(f"{norm}.bias", torch.zeros_like(tensors[name]))
    return {**unet_settings(config), "placement": place}, tensors

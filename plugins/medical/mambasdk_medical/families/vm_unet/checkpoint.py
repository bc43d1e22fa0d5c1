"""Upstream VM-UNet files: state dicts whose names and shapes say everything but the drop path rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mambasdk_medical.nn.vss_checkpoint import agreed, encoder_settings, image_channels, stage_depths

if TYPE_CHECKING:
    from torch import Tensor

    from mambasdk.models import Checkpoint

_OTHERS = ("input_channels", "drop_path_rate")


def import_vm_unet(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's constructor arguments, or none, and state dict.

    Upstream's wrapper puts `vmunet.` before every name; files with and without it are read.
    """
    weights = weights.part("vmunet.")
    found = {
        **encoder_settings(weights),
        "depths_decoder": stage_depths(weights, "layers_up"),
        "num_classes": weights["final_conv.weight"].shape[0],
        "d_state": weights["layers.0.blocks.0.self_attention.A_logs"].shape[1],
    }
    settings = agreed(config, found, _OTHERS)
    settings["in_channels"] = image_channels(config, weights["patch_embed.proj.weight"].shape[1])
    settings["drop_path_rate"] = config.get("drop_path_rate", 0.2)
    return settings, weights

"""Upstream VM-UNet V2 files: state dicts whose names and shapes say everything but what has no parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mambasdk_medical.nn.vss_checkpoint import agreed, encoder_settings, image_channels

if TYPE_CHECKING:
    from torch import Tensor

    from mambasdk.models import Checkpoint

# Upstream makes no decoder of blocks, whatever depths_decoder says.
_OTHERS = ("input_channels", "drop_path_rate", "depths_decoder", "deep_supervision")


def import_vm_unet_v2(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's constructor arguments, or none, and state dict."""
    encoder = weights.part("vmunet.")
    classes, width = weights["seg_outs.0.weight"].shape[:2]
    found = {
        **encoder_settings(encoder),
        "num_classes": classes,
        "mid_channel": width,
        "d_state": encoder["layers.0.blocks.0.self_attention.A_logs"].shape[1],
    }
    settings = agreed(config, found, _OTHERS)
    settings["in_channels"] = image_channels(config, encoder["patch_embed.proj.weight"].shape[1])
    settings["drop_path_rate"] = config.get("drop_path_rate", 0.2)
    settings["deep_supervision"] = config.get("deep_supervision", True)
    return settings, weights

"""Upstream MHS-VM files: state dicts whose names and shapes say everything but what has no parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mambasdk.errors import CheckpointError
from mambasdk_medical.families.mhs_vm.config import HEADS
from mambasdk_medical.nn.vss_checkpoint import agreed, encoder_settings, image_channels, stage_depths

if TYPE_CHECKING:
    from torch import Tensor

    from mambasdk.models import Checkpoint

_OTHERS = ("input_channels", "drop_path_rate", "para_dict", "dims_decoder")
_MIXER = "layers.0.blocks.0.self_attention.mhs."
# The same tensors again, under the names by which upstream's modules hold each other.
_AGAIN = (".x_ssproj_W", ".scanning.seq2seq_engine.")


def import_mhs_vm(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's constructor arguments and state dict.

    What the weights do not say comes from the arguments: `drop_path_rate`, and in `para_dict` the threshold `gfu_t`.
    Upstream's wrapper puts `vmunet.` before every name; files with and without it are read. Names under which a file
    holds a tensor again are dropped.
    """
    weights = weights.part("vmunet.").rename(lambda name: None if any(part in name for part in _AGAIN) else name)
    found = {
        **encoder_settings(weights),
        "depths_decoder": stage_depths(weights, "layers_up"),
        "num_classes": weights["final_conv.weight"].shape[0],
        "d_state": weights[f"{_MIXER}scanhead_{HEADS[0]}.mambaeng.A_logs"].shape[1],
    }
    settings = agreed(config, found, _OTHERS)
    options = dict(config.get("para_dict", {}))
    heads = {
        "head_num": sum(f"{_MIXER}scanhead_{kind}.mambaeng.Ds" in weights for kind in HEADS),
        "with_proj": f"{_MIXER}y_proj.weight" in weights,
    }
    _refuse(options, heads, config, found["dims"])
    settings |= heads
    settings["gfu_t"] = options.get("gfu_t", 0.5)
    settings["in_channels"] = image_channels(config, weights["patch_embed.proj.weight"].shape[1])
    settings["drop_path_rate"] = config.get("drop_path_rate", 0.2)
    return settings, weights


def _refuse(options: Mapping[str, Any], heads: Mapping[str, Any], config: Mapping[str, Any], dims: list[int]) -> None:
    """Raises CheckpointError for arguments that the weights contradict, and for ones that nothing is known of."""
    way_out = "give the arguments that the weights were trained with, with para_dict's gfu_t, head_num and with_proj"
    for key, value in options.items():
        if key != "gfu_t" and heads.get(key) != value:
            raise CheckpointError(
                f"para_dict has {key} = {value!r}",
                expected=f"gfu_t, and what the weights say: {dict(heads)}",
                way_out=way_out,
            )
    widths = list(config.get("dims_decoder", dims[::-1]))
    if widths != dims[::-1]:
        raise CheckpointError(f"dims_decoder = {widths}", expected=f"{dims[::-1]}, the encoder's reversed")

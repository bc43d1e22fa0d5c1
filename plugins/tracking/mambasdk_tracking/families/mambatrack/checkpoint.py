"""Import of checkpoints with the names of the unofficial code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint

# Names of the unofficial code -> ours. The weights decide: a configuration that says otherwise is an error.
_SIZES = {
    "d_model": "d_model",
    "d_state": "d_state",
    "d_conv": "d_conv",
    "expand": "expand",
    "blocks": "n_layer",
    "head_hidden": "head_hidden",
}
_CHOICES = {"q": "window", "scale_factor": "scale", "norm": "norm", "backward_flip": "backward_flip"}


def import_mambatrack(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a checkpoint with the names of the unofficial code.

    config: may be empty; `q`, `scale_factor`, `norm` and `backward_flip` say what no weight shows. A head that is
    narrower than the model pools channels, which only the unofficial code does; then backward_flip is False by default.
    """
    settings = _sizes(weights)
    for theirs, ours in _SIZES.items():
        if theirs in config and config[theirs] != settings[ours]:
            raise CheckpointError(
                f"{theirs} = {config[theirs]} in the configuration, {settings[ours]} by the weights",
                where=weights.where,
                way_out="correct the configuration, or leave it out",
            )
    if settings["pool_channels"] is not None:
        settings["backward_flip"] = False
    settings.update({ours: config[theirs] for theirs, ours in _CHOICES.items() if theirs in config})
    return settings, weights


def _sizes(weights: Checkpoint) -> dict[str, Any]:
    block = "bi_mamba_blocks.0.forward_mamba"
    d_model = _shape(weights, "proj_embedding_layer.weight")[0]
    d_inner, d_state = _shape(weights, f"{block}.A_log")
    hidden, pooled = _shape(weights, "pred_head.1.weight")
    return {
        "d_model": d_model,
        "n_layer": 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("bi_mamba_blocks.")),
        "d_state": d_state,
        "d_conv": _shape(weights, f"{block}.conv1d.weight")[-1],
        "expand": d_inner // d_model,
        "head_hidden": hidden,
        "pool_channels": None if pooled == d_model else pooled,
    }


def _shape(weights: Checkpoint, name: str) -> tuple[int, ...]:
    if name not in weights:
        raise CheckpointError(
            f"no tensor {name}",
            where=weights.where,
            expected="a motion predictor of MambaTrack",
            way_out="give the state dict of the network itself (a training checkpoint may hold it under a key)",
        )
    return tuple(weights[name].shape)

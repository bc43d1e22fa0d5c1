"""The family `mambatrack`: configuration, module, and import of checkpoints of the unofficial code (mambatrack.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import Checkpoint
from mambasdk_tracking.motion import MotionPredictor, NativeMotionPredictor


@dataclass
class MambaTrackConfig:
    """A Mamba motion predictor (MTP) of MambaTrack, arXiv 2408.09178.

    d_model: D. n_layer: Bi-Mamba blocks. d_state, d_conv, expand: of their Mambas. window: q, the most box deltas that
    it looks at. scale: factor on normalised deltas, of inputs and outputs alike. head_hidden: hidden size of the head.
    norm: "pre" for `Y + MLP(LN(Y))` (the paper's figure), "post" for `Y + LN(MLP(Y))` (its equation 6).

    Compatibility with the unofficial checkpoint: backward_flip: False adds the backward Mamba's output without turning
    it round again. pool_channels: the head sees means of groups of channels, so many (None: all D channels).
    """

    d_model: int = 512
    n_layer: int = 3
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    window: int = 10
    scale: float = 50.0
    head_hidden: int = 64
    norm: Literal["pre", "post"] = "pre"
    backward_flip: bool = True
    pool_channels: int | None = None

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layer", "d_state", "d_conv", "expand", "window", "head_hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidArgumentError(
                    f"bad {name}", where="MambaTrackConfig", expected="an integer of 1 or more", got=repr(value)
                )
        if not self.scale > 0:
            raise InvalidArgumentError("bad scale", where="MambaTrackConfig", expected="above 0", got=self.scale)
        if self.norm not in ("pre", "post"):
            raise InvalidArgumentError("bad norm", where="MambaTrackConfig", expected="'pre' or 'post'", got=self.norm)
        pool = self.pool_channels
        if pool is not None and (pool < 1 or self.d_model % pool):
            raise InvalidArgumentError(
                "bad pool_channels", where="MambaTrackConfig", expected=f"a divisor of {self.d_model}", got=pool
            )


def build(config: MambaTrackConfig) -> MotionPredictor:
    """The module of a configuration, freshly initialised; also on the meta device."""
    kind = NativeMotionPredictor if config.backward_flip else MotionPredictor
    return kind(
        config.d_model,
        config.n_layer,
        d_state=config.d_state,
        d_conv=config.d_conv,
        expand=config.expand,
        window=config.window,
        scale=config.scale,
        head_hidden=config.head_hidden,
        norm=config.norm,
        backward_flip=config.backward_flip,
        pool_channels=config.pool_channels,
    )


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

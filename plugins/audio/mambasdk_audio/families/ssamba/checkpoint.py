"""Import of upstream's checkpoints: pretrained and fine-tuned files of the authors' repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import (
    Checkpoint,
    UpstreamConfig,
    config_where,
    layer_count,
    renamed,
    require,
    require_tensors,
)
from mambasdk_audio.families.ssamba.config import SsambaConfig

_SIZES = {"tiny": 192, "small": 384, "base": 768}
_FREQUENCIES, _FRAMES = "p_input_fdim", "p_input_tdim"
# Arguments of upstream's Vision Mamba -> our field.
_ENCODER = {
    "embed_dim": "embed_dim",
    "depth": "depth",
    "norm_epsilon": "norm_epsilon",
    "rms_norm": "rms_norm",
    "drop_path_rate": "drop_path_rate",
    "if_bidirectional": "pairs",
    "if_devide_out": "divide_out",
    "if_divide_out": "divide_out",
}
# Those that must have one value, or there is another model behind them.
_FIXED: dict[str, Any] = {
    "channels": 1,
    "bimamba_type": "v2",
    "if_rope": False,
    "if_rope_residual": False,
    "if_abs_pos_embed": True,
    "if_bimamba": False,
    "if_cls_token": True,
    "use_double_cls_token": False,
    "use_middle_cls_token": False,
}
_MODEL = ("fshape", "tshape", "fstride", "tstride", "input_fdim", "input_tdim")


def import_ssamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensors from upstream's arguments of AMBAModel and a file of its weights.

    config: arguments of upstream's AMBAModel by their names, of which a pretrained file needs none: model_size,
    vision_mamba_config, fshape, tshape, fstride, tstride, input_fdim, input_tdim; `task` is the pooling of a
    fine-tuned file. What is not there comes from the tensors.
    """
    plain = weights
    settings = {**_from_tensors(plain), **_from_config(config)}
    for name in ("embed_dim", "depth"):
        found = _from_tensors(plain)[name]
        if settings[name] != found:
            raise CheckpointError(f"{name} = {settings[name]} in the configuration", where=plain.where, expected=found)
    tuned = "mlp_head.1.weight" in plain
    if tuned:
        settings["label_dim"] = plain["mlp_head.1.weight"].shape[0]
        settings["pooling"] = config.get("task", "ft_avgtok")
        # The published heads of this kind were trained on upstream's slots.
        settings["upstream_slots"] = settings["pooling"] == "ft_avgtok_1sec"
    _check_grid(settings, plain)
    dropped: tuple[str, ...] = ("v.head.", _FREQUENCIES, _FRAMES)
    if tuned:
        dropped = (*dropped, "cpredlayer.", "gpredlayer.", "mask_embed")
    rms_norm = bool(settings.get("rms_norm"))

    def kept(name: str) -> str | None:
        no_bias = rms_norm and name.endswith((".norm.bias", "norm_f.bias"))  # as upstream's strict=False
        return None if name.startswith(dropped) or no_bias else name

    return settings, plain.rename(kept)


def _from_tensors(weights: Checkpoint) -> dict[str, Any]:
    """Sizes that the tensors themselves tell."""
    require_tensors(weights, ("v.cls_token", "v.pos_embed", "v.patch_embed.proj.weight"), "SSAMBA")
    fshape, tshape = weights["v.patch_embed.proj.weight"].shape[2:]
    found = {
        "embed_dim": weights["v.cls_token"].shape[-1],
        "depth": layer_count(weights, "v.layers."),
        "fshape": fshape,
        "tshape": tshape,
        "fstride": fshape,
        "tstride": tshape,
    }
    if _FREQUENCIES in weights and _FRAMES in weights:
        found |= {"input_fdim": int(weights[_FREQUENCIES]), "input_tdim": int(weights[_FRAMES])}
    return found


def _from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    encoder = UpstreamConfig(config.get("vision_mamba_config") or {}, f"{config_where(config)}: vision_mamba_config")
    require(encoder, {name: (value,) for name, value in _FIXED.items()}, "ssamba")
    settings = renamed(encoder, _ENCODER)
    size = config.get("model_size")
    if size is not None:
        if size not in _SIZES:
            raise CheckpointError("unknown model_size", where="config", expected=" or ".join(_SIZES), got=repr(size))
        settings.setdefault("embed_dim", _SIZES[size])
    return {**settings, **{name: int(config[name]) for name in _MODEL if config.get(name) is not None}}


def _check_grid(settings: Mapping[str, Any], weights: Checkpoint) -> None:
    """The patches must be as many as the positions; a fine-tuned file does not say its length itself."""
    patches = SsambaConfig(**settings).patches
    found = weights["v.pos_embed"].shape[1] - 1
    if patches != found:
        raise CheckpointError(
            f"{settings.get('input_tdim', 'the default')} frames at this stride make {patches} patches",
            where=weights.where,
            expected=f"{found}, the rows of v.pos_embed",
            way_out="give input_tdim, fstride and tstride of the training in the configuration",
        )

"""Upstream files of U-Nets made of VSS blocks: what their shapes say, and weights of a VMamba to begin with."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, require_known
from mambasdk_medical.nn.vss_config import COLOUR

if TYPE_CHECKING:
    from torch import Tensor, nn

_ARGUMENTS = "give the constructor's arguments, or nothing: the weights say the same"
# Where a model begins from, which upstream's constructors take too.
_IGNORED = ("load_ckpt_path",)
_VMAMBA = {"patch_embed.0.": "patch_embed.proj.", "patch_embed.2.": "patch_embed.norm."}
_BLOCK = ((".norm.", ".ln_1."), (".op.", ".self_attention."))


def encoder_settings(weights: Checkpoint) -> dict[str, Any]:
    """`dims` and `depths` of the encoder whose tensors are `layers.*`; raises CheckpointError where there is none."""
    depths = stage_depths(weights, "layers")
    dims = [weights[f"layers.{stage}.blocks.0.ln_1.weight"].shape[0] for stage in range(len(depths))]
    return {"dims": dims, "depths": depths}


def stage_depths(weights: Checkpoint, name: str) -> list[int]:
    """How many blocks the stages `name`.0, `name`.1, … have; raises CheckpointError where there is none."""
    found: dict[int, int] = {}
    for key in weights:
        if (match := re.match(rf"{name}\.(\d+)\.blocks\.(\d+)\.", key)) is not None:
            stage, block = int(match[1]), int(match[2])
            found[stage] = max(found.get(stage, 0), block + 1)
    if not found or sorted(found) != list(range(len(found))):
        raise CheckpointError(
            f"no tensors {name}.0.blocks.0.*, {name}.1.blocks.0.*, …", where=weights.where, got=sorted(weights)[:3]
        )
    return [found[stage] for stage in range(len(found))]


def agreed(config: Mapping[str, Any], found: Mapping[str, Any], others: Collection[str]) -> dict[str, Any]:
    """`found`, what the weights say under upstream's names, where `config` says nothing else.

    others: further keys that the configuration may have. Raises CheckpointError for unknown ones, and for a difference.
    """
    require_known(config, {*found, *others, *_IGNORED}, _ARGUMENTS)
    for key, value in found.items():
        given = config.get(key, value)
        if (list(given) if isinstance(given, Sequence) else given) != value:
            raise CheckpointError(
                f"{key} = {given!r} in the configuration, {value!r} in the weights", way_out=_ARGUMENTS
            )
    return dict(found)


def image_channels(config: Mapping[str, Any], stem: int) -> int:
    """`in_channels` of ours: upstream's models of three channels take grey images too."""
    given: int = config.get("input_channels", stem)
    if given not in (stem, 1) or (given == 1 and stem not in (1, COLOUR)):
        raise CheckpointError(f"input_channels = {given}, but the weights take {stem}", way_out=_ARGUMENTS)
    return given


def begin_from_vmamba(model: nn.Module, weights: Mapping[str, Tensor] | str | os.PathLike[str]) -> list[str]:
    """Begin from the weights of a VMamba classifier (its first version, upstream's files or ours).

    Encoder stage i takes the classifier's stage i, and decoder stage n - 1 - i the same blocks again, where it has
    tensors of these names; the rest stays as it is. Returns the names in `model` that were set. Raises CheckpointError
    for a tensor of another shape, and where nothing was set. Source: arXiv 2402.02491, section 3.
    """
    import torch

    state = model.state_dict(keep_vars=True)
    encoder = "vmunet." if "vmunet.patch_embed.proj.weight" in state else ""
    stages = len({name.split(".")[1] for name in state if name.startswith("layers_up.")})
    values: dict[str, Tensor] = {}
    with Checkpoint.open(weights) as checkpoint:
        for key in checkpoint:
            name = _block_name(key)
            names = [encoder + name]
            if (match := re.match(r"layers\.(\d+)\.", name)) is not None:
                names.append(f"layers_up.{stages - 1 - int(match[1])}.{name[match.end() :]}")
            for ours in names:
                if ours not in state:
                    continue
                values[ours] = checkpoint[key]
                if values[ours].shape != state[ours].shape:
                    raise CheckpointError(
                        f"{key} is {tuple(values[ours].shape)}, {ours} of the model {tuple(state[ours].shape)}",
                        where=checkpoint.where,
                        way_out="take a VMamba of the model's dims and d_state",
                    )
        if not values:
            raise CheckpointError("no tensor has a name of the model", where=checkpoint.where, got=list(checkpoint)[:3])
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
    return list(values)


def _block_name(name: str) -> str:
    """The name of a VMamba's tensor in these models; other and older files have that already."""
    for new, old in _VMAMBA.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    if ".blocks." in name:
        for new, old in _BLOCK:
            name = name.replace(new, old)
    return name

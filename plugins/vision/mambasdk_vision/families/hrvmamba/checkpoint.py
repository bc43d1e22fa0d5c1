"""Upstream HRVMamba checkpoints: sizes and the kind of model are read off the tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.models import Checkpoint, require, require_known
from mambasdk.models.upstream import layer_count, require_tensors
from mambasdk_vision.families.hrvmamba.config import BRANCHES

_FIRST = "stage2.0.branches.0.0."  # the first block
# What no tensor tells, and what may be chosen of a file that holds more.
_GIVEN = (
    "task",
    "img_size",
    "offset_scale",
    "ssm_drop_rate",
    "drop_path_rate",
    "multiscale_output",
)
_NECK = "neck.final_layer.conv.weight"
# task -> what a file for it has to hold, and beginnings of the names that it does not use.
_TASKS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "classification": ([_NECK, "head.weight"], ("outnorm",)),
    "pose": ([], ("neck.", "head.", "outnorm")),
    "segmentation": ([_NECK], ("head.",)),
}


def import_hrvmamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from an upstream state dict.

    config: task, img_size, offset_scale, multiscale_output and rates of dropout. The rest is in the tensors: whether
    the deformable convolutions have projections (`op.conv2d.value_proj.weight`), blocks SE and LPU, the last fusion all
    outputs or one. task: what the file is of, unless given; a classifier's file gives "pose", and "segmentation", whose
    norms then start as identities, as upstream loads it. Linear layers may be (out, in, 1, 1). Of a whole estimator or
    segmenter the part `backbone.` is taken.
    """
    require_known(config, _GIVEN, "every size is read off the tensors; give task, img_size or rates of dropout")
    require(config, {"task": tuple(_TASKS)}, "hrvmamba")
    weights = weights.part("backbone.")
    require_tensors(weights, ["conv1.weight", f"{_FIRST}norm.weight", f"{_FIRST}op.in_proj.weight"], "HRVMamba")
    task = config.get("task", _task(weights))
    needed, unused = _TASKS[task]
    require_tensors(weights, needed, f"HRVMamba for {task}")
    weights = weights.rename(lambda name: None if name.startswith(unused) else name)
    tensors: dict[str, Tensor] = {name: _flat(name, weights) for name in weights}
    settings = _sizes(weights)
    settings.update({"task": task, **config})
    if task == "segmentation":
        for index, width in enumerate((*settings["neck_channels"][:-1], settings["neck_features"])):
            tensors.setdefault(f"outnorm{index}.weight", torch.ones(width))
            tensors.setdefault(f"outnorm{index}.bias", torch.zeros(width))
    if not settings["multiscale_output"]:
        last = f"stage{BRANCHES}.{settings['num_modules'][-1] - 1}.fuse_layers."
        tensors = {k: t for k, t in tensors.items() if not (k.startswith(last) and not k.startswith(f"{last}0."))}
    return settings, tensors


def _task(weights: Checkpoint) -> str:
    if "head.weight" in weights:
        return "classification"
    return "segmentation" if any(name.startswith("neck.") for name in weights) else "pose"


def _sizes(weights: Checkpoint) -> dict[str, Any]:
    """The fields of a configuration that tensors tell."""

    def rows(name: str) -> int:
        return int(weights[name].shape[0])

    stages = range(2, BRANCHES + 1)
    channels, modules = rows(f"{_FIRST}norm.weight"), [layer_count(weights, f"stage{stage}.") for stage in stages]
    last = f"stage{BRANCHES}.{modules[-1] - 1}.fuse_layers."
    found: dict[str, Any] = {
        "in_chans": int(weights["conv1.weight"].shape[1]),
        "channels": channels,
        "stem_channels": rows("conv1.weight"),
        "stage1_channels": rows("layer1.0.conv1.weight"),
        "stage1_blocks": layer_count(weights, "layer1."),
        "num_modules": modules,
        "num_blocks": layer_count(weights, "stage2.0.branches.0."),
        "ssm_ratio": rows(f"{_FIRST}op.in_proj.weight") / channels,
        "mlp_ratio": rows(f"{_FIRST}mlp.fc1.weight") / channels,
        "se_lpu": f"{_FIRST}cpe1.weight" in weights,
        "projections": f"{_FIRST}op.conv2d.value_proj.weight" in weights,
        "multiscale_output": any(name.startswith(f"{last}1.") for name in weights),
    }
    if any(name.startswith("neck.") for name in weights):
        found["neck_channels"] = [rows(f"neck.increase_layers.{i}.0.conv3.weight") for i in range(BRANCHES)]
        found["neck_features"] = rows("neck.final_layer.conv.weight")
    if "head.weight" in weights:
        found["num_classes"] = rows("head.weight")
    return found


_LINEAR = re.compile(r"(_proj|offset_mask|fc1|fc2|fc\.\d)\.weight$")


def _flat(name: str, weights: Checkpoint) -> Tensor:
    """A linear layer that was stored as a convolution of side 1, without its last two dims."""
    tensor = weights[name]
    return tensor.flatten(1) if tensor.ndim == 4 and _LINEAR.search(name) else tensor

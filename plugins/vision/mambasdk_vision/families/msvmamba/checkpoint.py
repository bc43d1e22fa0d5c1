"""Upstream MSVMamba checkpoints of both versions, which their tensors tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, require, require_known
from mambasdk_vision.checkpoint import UPSTREAM_ARGUMENTS, staged_tensors
from mambasdk_vision.families.msvmamba.config import Version
from mambasdk_vision.nn.stages import stage_widths

# Upstream's arguments that are ours too; the defaults are those of the published models.
_DEFAULTS: dict[str, Any] = {
    "in_chans": 3,
    "num_classes": 1000,
    "depths": [1, 2, 9, 2],
    "dims": 96,
    "drop_path_rate": 0.0,
    "out_indices": [],
}
_RENAMED = {"ssm_d_state": "d_state", "ssm_ratio": "ssm_ratio", "ssm_dt_rank": "dt_rank", "imgsize": "imgsize"}
# Those whose other values are no published model: of both versions, and of each.
_REQUIRED: dict[str, tuple[Any, ...]] = {
    "patch_size": (4,),
    "ssm_act_layer": ("silu",),
    "ssm_conv": (3,),
    "ssm_conv_bias": (True,),
    "ssm_drop_rate": (0, 0.0),
    "patch_norm": (True,),
    "add_se": (True,),
}
_OF: dict[str, dict[str, tuple[Any, ...]]] = {
    "v1": {
        "forward_type": ("v2",),
        "ssm_simple_init": (False,),
        "norm_layer": ("ln", "LN"),
        "downsample_version": ("v1",),
        "patchembed_version": ("v1",),
        "recurrent": (False,),
        "sscore_type": ("multiscale_4scan_12",),
        "inter_block_ssm": (False,),
        "add_conv": (True,),
        "b1_seq": (False,),
        "b1_ratio": (0.5,),
        "ms_fusion": (None,),
        "up_sample": ("interpolate",),
        "convFFN": (True,),
        "lpu": (False,),
        "sep_norm": (False,),
        "ms_stage": ([0, 1, 2, 3], (0, 1, 2, 3)),
        "ms_split": ([1, 3], (1, 3)),
    },
    "v3": {
        "forward_type": ("vms_noz", "vms"),
        "ssm_init": ("v0",),
        "norm_layer": ("ln2d", "LN2D"),
        "downsample_version": ("v3",),
        "patchembed_version": ("v2",),
        "gmlp": (False,),
        "posembed": (False,),
        "convffn": (True,),
        "axis_stage": ([], ()),
    },
}
# Widths that nothing of these models has: an MLP beside the ConvFFN, and heads of other scans.
_UNUSED = ("mlp_ratio", "num_heads", "ssm_rank_ratio")
_IGNORED = ("use_checkpoint", "pretrained", "fused_path")
_LINEAR = ("_proj.weight", "se.fc.0.weight", "se.fc.2.weight", "reduction.weight", "classifier.head.weight")


def version_of(weights: Checkpoint) -> Version:
    """The version of a file: v3 has a second convolution in its stem."""
    return "v3" if "patch_embed.5.weight" in weights.part("backbone.") else "v1"


def import_msvmamba(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from upstream's constructor arguments and state dict; see staged_tensors.

    Raises CheckpointError for arguments of one version with tensors of the other: names and shapes of the scans agree,
    but not what they mean.
    """
    version = version_of(weights)
    known = {*_DEFAULTS, *_RENAMED, *_REQUIRED, *_OF["v1"], *_OF["v3"], *_UNUSED, *_IGNORED}
    known |= {"ffn_dropout", "conv_ffn_ratio", "full_res_index"}
    require_known(config, known, UPSTREAM_ARGUMENTS)
    require(config, _REQUIRED, "msvmamba")
    _check_version(config, version)
    require(config, _OF[version], f"msvmamba {version}")
    settings = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
    settings |= {ours: config[theirs] for theirs, ours in _RENAMED.items() if theirs in config}
    settings["version"] = version
    if version == "v1":
        settings["ffn_dropout"] = config.get("ffn_dropout", 0.0)
    else:
        settings.setdefault("ssm_ratio", 1.0)
        settings["gate"] = config.get("forward_type", "vms_noz") == "vms"
        settings["ffn_ratio"] = config.get("conv_ffn_ratio", 4)
        settings["full_res_index"] = config.get("full_res_index", 1)
    widths = stage_widths(settings["dims"], settings["depths"], "msvmamba")
    ends = ("classifier.",)
    return settings, staged_tensors(weights, widths, settings["out_indices"], ends=ends, linear=_LINEAR)


def _check_version(config: Mapping[str, Any], version: Version) -> None:
    stem = config.get("patchembed_version")
    if stem is not None and stem != {"v1": "v1", "v3": "v2"}[version]:
        raise CheckpointError(
            f"the tensors are those of MSVMamba {version}, the arguments are not",
            where="msvmamba",
            expected=f"patchembed_version of {version}",
            got=repr(stem),
            way_out="give the arguments that belong to the file",
        )

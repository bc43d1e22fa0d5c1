"""Import of the published checkpoints, in the format of state-spaces/mamba."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambasdk.models import Checkpoint, UpstreamConfig, config_where, require_known
from mambasdk_language.checkpoint import original_names, original_settings

# Arguments of the mixer in `ssm_cfg`. `A_activation` is ours: checkpoints before the heavy tail need "softplus" there.
_MIXER = (
    "headdim",
    "ngroups",
    "rope_fraction",
    "is_mimo",
    "mimo_rank",
    "is_outproj_norm",
    "A_floor",
    "A_activation",
)
_SHARED = ("d_state", "expand", "dt_min", "dt_max", "dt_init_floor")
# Which kernels run, not what they compute.
_KERNELS = ("chunk_size", "fuse_pregate_headwise_norm")


def import_mamba3(config: Mapping[str, Any], weights: Checkpoint) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Our overrides and tensor names from a checkpoint of state-spaces/mamba.

    Upstream takes arguments that the mixer does not have (d_conv, mimo, dt_limit) and ignores them; here they are
    refused.
    """
    ssm = config.get("ssm_cfg")
    if isinstance(ssm, Mapping):
        known = ("layer", *_SHARED, *_MIXER, *_KERNELS)
        require_known(UpstreamConfig(ssm, f"{config_where(config)}: ssm_cfg"), known)
        kept = {key: value for key, value in ssm.items() if key not in _KERNELS}
        config = UpstreamConfig({**config, "ssm_cfg": kept}, config_where(config))
    return original_settings(config, weights, _MIXER, "Mamba3", "mamba3"), original_names(weights)

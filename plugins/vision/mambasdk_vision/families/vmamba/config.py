"""The configuration of a VMamba, under upstream's argument names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn.forward_type import ForwardType
from mambasdk_vision.nn.stage_settings import StageSettings

_CHOICES = {
    "ssm_init": ("v0", "v1", "v2"),
    "downsample_version": ("v1", "v2", "v3", "none"),
    "patchembed_version": ("v1", "v2"),
}


@dataclass
class VMambaConfig(StageSettings):
    """A VMamba; the defaults are those of VMamba-tiny s1l8 (arXiv 2401.10166).

    patch_size: of the stem, 4. in_chans: channels of the image. num_classes: of the head. depths: blocks of each stage.
    dims: channels of the first stage, which double, or of every stage. ssm_d_state: N. ssm_ratio: D / C.
    ssm_dt_rank: R, "auto" is ceil(C / 16). ssm_act_layer, ssm_conv, ssm_conv_bias, ssm_drop_rate, ssm_init,
    forward_type: see SS2D. mlp_ratio: hidden width of the MLP per channel, 0 for no MLP. patch_norm: norms in the stem.
    drop_path_rate: of the last block. posembed: a learned position embedding, for images of imgsize.
    out_indices: stages whose maps come out, each through its own norm; empty for a classifier.
    """

    patch_size: int = 4
    in_chans: int = 3
    num_classes: int = 1000
    depths: Sequence[int] = (2, 2, 8, 2)
    dims: int | Sequence[int] = 96
    ssm_d_state: int = 1
    ssm_ratio: float = 1.0
    ssm_dt_rank: int | Literal["auto"] = "auto"
    ssm_act_layer: str = "silu"
    ssm_conv: int = 3
    ssm_conv_bias: bool = False
    ssm_drop_rate: float = 0.0
    ssm_init: Literal["v0", "v1", "v2"] = "v0"
    forward_type: str = "v05_noz"
    mlp_ratio: float = 4.0
    mlp_act_layer: str = "gelu"
    mlp_drop_rate: float = 0.0
    patch_norm: bool = True
    downsample_version: Literal["v1", "v2", "v3", "none"] = "v3"
    patchembed_version: Literal["v1", "v2"] = "v2"
    drop_path_rate: float = 0.0
    posembed: bool = False
    imgsize: int | Sequence[int] = 224
    out_indices: Sequence[int] = ()

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.dims = self.read_stages(self.dims)
        ForwardType.parse(self.forward_type)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidArgumentError(
                    f"bad {name}", where=where, expected=" or ".join(choices), got=repr(getattr(self, name))
                )
        if self.patchembed_version == "v2" and self.patch_size % 2:
            raise InvalidArgumentError("bad patch_size", where=where, expected="an even number", got=self.patch_size)

"""The configuration of an MSVMamba, of its first or its third version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn.stage_settings import StageSettings

Version = Literal["v1", "v3"]
VERSIONS = ("v1", "v3")


def check_full_res_index(index: int, where: str) -> None:
    """Raise InvalidArgumentError unless route `index`, from 1, can be the one at full resolution."""
    if index not in (1, 2):
        raise InvalidArgumentError(
            "bad full_res_index",
            where=where,
            expected="1 (rows) or 2 (rows from the end)",
            got=repr(index),
            way_out="for a route along columns the authors' code adds up the wrong segments, and no weights are "
            "published",
        )


@dataclass
class MSVMambaConfig(StageSettings):
    """An MSVMamba; the defaults are those of v1 tiny (arXiv 2405.14174).

    version: "v1", the paper's, or "v3", the authors' later one: other stem and downsampling, norms after the ConvFFN
    and after the merging, nearest upsampling, parameters of the two scans in the other order. in_chans: channels of the
    image. num_classes: of the head. depths: blocks of each stage. dims: channels of the first stage, which double, or
    of every stage. d_state: N. ssm_ratio: D / C. dt_rank: R, "auto" is ceil(C / 16). gate: half of the mixer's
    projection multiplies the map. ffn_ratio: hidden width of the ConvFFN per channel. ffn_dropout: in it.
    full_res_index: the route at full resolution, 1 (rows) or 2 (rows from the end). drop_path_rate: of the last block.
    imgsize: what a package's processor makes; the model takes any size. out_indices: stages whose maps come out, each
    through its own norm; empty for a classifier.
    """

    version: Version = "v1"
    in_chans: int = 3
    num_classes: int = 1000
    depths: Sequence[int] = (1, 2, 9, 2)
    dims: int | Sequence[int] = 96
    d_state: int = 1
    ssm_ratio: float = 2.0
    dt_rank: int | Literal["auto"] = "auto"
    gate: bool = True
    ffn_ratio: float = 2.0
    ffn_dropout: float = 0.0
    full_res_index: int = 1
    drop_path_rate: float = 0.0
    imgsize: int | Sequence[int] = 224
    out_indices: Sequence[int] = ()

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.dims = self.read_stages(self.dims)
        if self.version not in VERSIONS:
            raise InvalidArgumentError(
                "bad version", where=where, expected=" or ".join(map(repr, VERSIONS)), got=repr(self.version)
            )
        check_full_res_index(self.full_res_index, where)

"""The configuration of an EfficientVMamba, under upstream's argument names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn.stage_settings import StageSettings


@dataclass
class EfficientVMambaConfig(StageSettings):
    """An EfficientVMamba; the defaults are the tiny one's (arXiv 2403.09977).

    dims: channels of the first stage, which double, or of every stage. depths: blocks of each stage; the first two
    stages scan, the others are inverted residuals. step_size: the sides of the phases that the four routes take, 2.
    patch_size: of the stem, 4. in_chans: channels of the image. num_classes: of the head. patch_norm: a norm in the
    stem. mlp_ratio: hidden width of an MLP per channel behind the scan, 0 for no MLP, as in the released models.
    drop_path_rate: of the last block. imgsize: height and width of the images that a package's processor makes; the
    model takes any. out_indices: stages whose maps come out, each through its own norm; empty for a classifier.
    """

    dims: int | Sequence[int] = 48
    depths: Sequence[int] = (2, 2, 4, 2)
    step_size: int = 2
    patch_size: int = 4
    in_chans: int = 3
    num_classes: int = 1000
    patch_norm: bool = True
    mlp_ratio: float = 0.0
    drop_path_rate: float = 0.0
    imgsize: int | Sequence[int] = 224
    out_indices: Sequence[int] = ()

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.dims = self.read_stages(self.dims)
        if self.step_size != 2:
            raise InvalidArgumentError(
                "bad step_size",
                where=where,
                expected="2: four routes are the four phases of a step of 2",
                got=repr(self.step_size),
            )
        if min(self.dims[:2]) < 8:
            raise InvalidArgumentError(
                "bad dims",
                where=where,
                expected="8 or more in the first two stages, an eighth of which is squeezed and excited",
                got=self.dims,
            )

"""The configuration of a MedMamba, under upstream's argument names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn import pair
from mambasdk_vision.nn.stages import check_out_indices, stage_widths


@dataclass
class MedMambaConfig:
    """A MedMamba; the defaults are those of MedMamba-T for the six classes that its size is counted with.

    in_chans: channels of the image. num_classes: of the head. depths: blocks of each stage. dims: channels of the first
    stage, which double, or of every stage; even numbers. d_state: N. drop_path_rate: of the last block. imgsize: what a
    package's processor makes; the model takes any size. out_indices: stages whose maps come out, each through its own
    norm; empty for a classifier. Source: arXiv 2403.03849.
    """

    in_chans: int = 3
    num_classes: int = 6
    depths: Sequence[int] = (2, 2, 4, 2)
    dims: int | Sequence[int] = 96
    d_state: int = 16
    drop_path_rate: float = 0.0
    imgsize: int | Sequence[int] = 224
    out_indices: Sequence[int] = ()

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.depths = tuple(self.depths)
        self.dims = stage_widths(self.dims, self.depths, where)
        self.out_indices = check_out_indices(self.out_indices, len(self.depths), where)
        self.imgsize = pair(self.imgsize, "imgsize", where)
        if any(width % 2 for width in self.dims):
            raise InvalidArgumentError("bad dims", where=where, expected="even numbers", got=self.dims)
        for name in ("in_chans", "num_classes", "d_state"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"bad {name}", where=where, expected="1 or more", got=getattr(self, name))

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that a package's processor makes."""
        return pair(self.imgsize, "imgsize", type(self).__name__)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every stage."""
        assert not isinstance(self.dims, int)
        return tuple(self.dims)

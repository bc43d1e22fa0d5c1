"""What the configurations of U-Nets made of VSS blocks have in common. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.config import MedicalConfig
from mambasdk_medical.plans import NetworkPlan

STEM = 4  # pixels of an image along one side of a pixel of the first map
GREY, COLOUR = 1, 3


@dataclass
class VSSConfig(MedicalConfig):
    """Base of a configuration for images (H, W) that every stage of the encoder divides: by 4, then by 2.

    in_channels: of the image; a grey one enters as three channels that are the same, as upstream. dims, depths:
    channels and blocks of every stage of the encoder. d_state: N. drop_path_rate: of the encoder's last block.
    """

    in_channels: int = COLOUR
    num_classes: int = 1
    dims: Sequence[int] = (96, 192, 384, 768)
    depths: Sequence[int] = (2, 2, 2, 2)
    d_state: int = 16
    drop_path_rate: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        self.dims, self.depths = tuple(self.dims), tuple(self.depths)
        self._check_stages("dims", self.dims)
        self._check_stages("depths", self.depths)
        if self.d_state < 1:
            raise InvalidArgumentError("bad d_state", where=where, expected="1 or more", got=self.d_state)
        if not 0 <= self.drop_path_rate < 1:
            raise InvalidArgumentError(
                "bad drop_path_rate", where=where, expected="0 or more, below 1", got=self.drop_path_rate
            )
        if self.spatial_dims != 2 or any(extent % self.divisor for extent in self.patch_size):
            raise InvalidArgumentError(
                "bad patch_size",
                where=where,
                expected=f"(H, W), multiples of {self.divisor}",
                got=tuple(self.patch_size),
                way_out="a volume is predicted slice by slice with a 2-D plan",
            )

    def _check_stages(self, name: str, values: Sequence[int]) -> None:
        if len(values) != len(self.dims) or not values or any(not isinstance(v, int) or v < 1 for v in values):
            raise InvalidArgumentError(
                f"bad {name}",
                where=type(self).__name__,
                expected=f"integers of 1 or more for {len(self.dims) or 'some'} stages",
                got=tuple(values),
            )

    @property
    def divisor(self) -> int:
        """What both extents of an image are multiples of."""
        return STEM << (len(self.dims) - 1)

    @property
    def stem_channels(self) -> int:
        """Channels that the patch embedding takes."""
        return COLOUR if self.in_channels == GREY else self.in_channels

    @classmethod
    def for_plan(cls, plan: NetworkPlan) -> dict[str, Any]:
        """Overrides that fit a 2-D plan; its patch is enlarged to what the stages divide."""
        step = STEM << (len(cls.dims) - 1)
        size = tuple(-(-extent // step) * step for extent in plan.patch_size)
        return {**super().for_plan(plan), "patch_size": size}


@dataclass
class VSSUNetConfig(VSSConfig):
    """A U-Net whose decoder is of such blocks too.

    depths_decoder: blocks of every stage of the decoder, the deepest first; its widths are the encoder's reversed.
    """

    depths_decoder: Sequence[int] = (2, 2, 2, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.depths_decoder = tuple(self.depths_decoder)
        self._check_stages("depths_decoder", self.depths_decoder)
        if self.dims[0] % STEM:
            raise InvalidArgumentError(
                "bad dims",
                where=type(self).__name__,
                expected=f"a first width that {STEM} divides",
                got=tuple(self.dims),
            )

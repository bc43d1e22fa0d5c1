"""The configuration of a SegMamba. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.config import MedicalConfig
from mambasdk_medical.plans import NetworkPlan


@dataclass
class SegMambaConfig(MedicalConfig):
    """A SegMamba; the defaults are those for BraTS 2023 (arXiv 2401.13560). patch_size has three axes.

    dims: channels of each stage, of which the first is at half the patch's size and each next at half of that.
    depths: layers of each stage. num_slices: n of each stage, into which the third orientation cuts the sequence; it
    divides the stage's voxels. hidden_size: channels of the deepest skip. d_state: N of the scans.
    """

    patch_size: Sequence[int] = (128, 128, 128)
    in_channels: int = 4
    num_classes: int = 4
    dims: Sequence[int] = (48, 96, 192, 384)
    depths: Sequence[int] = (2, 2, 2, 2)
    num_slices: Sequence[int] = (64, 32, 16, 8)
    hidden_size: int = 768
    d_state: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        if self.spatial_dims != 3:
            raise InvalidArgumentError(
                "bad patch_size", where=where, expected="(D, H, W): it is a network of volumes", got=self.patch_size
            )
        for name in ("dims", "depths", "num_slices"):
            values = tuple(getattr(self, name))
            setattr(self, name, values)
            if not values or len(values) != len(self.dims) or min(values) < 1:
                raise InvalidArgumentError(
                    f"bad {name}", where=where, expected=f"1 or more for each of {len(self.dims)} stages", got=values
                )
        for name in ("hidden_size", "d_state"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"bad {name}", where=where, expected="1 or more", got=getattr(self, name))
        if any(extent % self.divisor for extent in self.patch_size):
            raise InvalidArgumentError(
                "bad patch_size",
                where=where,
                expected=f"multiples of {self.divisor}: {len(self.dims)} halvings",
                got=self.patch_size,
            )
        for stage, count in enumerate(self.num_slices):
            voxels = math.prod(extent >> (stage + 1) for extent in self.patch_size)
            if voxels % count:
                raise InvalidArgumentError(
                    f"bad num_slices of stage {stage}",
                    where=where,
                    expected=f"a divisor of its {voxels} voxels at patch_size {self.patch_size}",
                    got=count,
                    way_out="for_plan takes the slices of a patch's first axis",
                )

    @property
    def divisor(self) -> int:
        """Every extent of a patch is a multiple of it."""
        return 1 << len(self.dims)

    @classmethod
    def for_plan(cls, plan: NetworkPlan) -> dict[str, Any]:
        """As for every segmenter; n of each stage is what is left there of the patch's first axis, as at 128 voxels."""
        stages = len(cls.dims)
        return {
            **super().for_plan(plan),
            "num_slices": [max(plan.patch_size[0] >> (stage + 1), 1) for stage in range(stages)],
        }

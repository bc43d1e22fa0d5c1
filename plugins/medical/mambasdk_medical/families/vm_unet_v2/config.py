"""The configuration of a VM-UNet V2, under upstream's argument names. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.nn.vss_config import VSSConfig
from mambasdk_medical.plans import NetworkPlan


@dataclass
class VMUNetV2Config(VSSConfig):
    """A VM-UNet V2; the defaults are those of the published model (arXiv 2403.09157). See VSSConfig.

    mid_channel: width of the decoder. deep_supervision: the logits are those of the finest level and of the next,
    upsampled by learned weights, and the coarser levels' are trained too; without it those of the finest level alone.
    """

    depths: Sequence[int] = (2, 2, 9, 2)
    mid_channel: int = 48
    deep_supervision: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        if self.mid_channel < 1:
            raise InvalidArgumentError("bad mid_channel", where=where, expected="1 or more", got=self.mid_channel)
        if len(self.dims) == 1:
            raise InvalidArgumentError("bad dims", where=where, expected="two stages or more", got=tuple(self.dims))

    @classmethod
    def for_plan(cls, plan: NetworkPlan) -> dict[str, Any]:
        """See VSSConfig; with the plan's deep supervision."""
        return {**super().for_plan(plan), "deep_supervision": plan.deep_supervision}

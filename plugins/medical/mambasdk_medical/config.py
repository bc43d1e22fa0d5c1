"""What the configurations of medical segmenters have in common. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.plans import NetworkPlan


@dataclass
class MedicalConfig:
    """Base of a segmenter's configuration.

    patch_size: of a tile, (H, W) or (D, H, W); the number of axes follows from it. in_channels: of the image.
    num_classes: channels of the logits.
    """

    patch_size: Sequence[int] = (256, 256)
    in_channels: int = 1
    num_classes: int = 2

    def __post_init__(self) -> None:
        self.patch_size = tuple(int(extent) for extent in self.patch_size)
        if len(self.patch_size) not in (2, 3) or min(self.patch_size) < 1:
            raise InvalidArgumentError(
                "bad patch_size",
                where=type(self).__name__,
                expected="(H, W) or (D, H, W), each 1 or more",
                got=self.patch_size,
            )
        for name in ("in_channels", "num_classes"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(
                    f"bad {name}", where=type(self).__name__, expected="1 or more", got=getattr(self, name)
                )

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.patch_size)

    @classmethod
    def for_plan(cls, plan: NetworkPlan) -> dict[str, Any]:
        """Overrides that fit a plan's patches and labels; a family whose stages a plan decides adds them."""
        return {"patch_size": plan.patch_size, "in_channels": plan.in_channels, "num_classes": plan.num_classes}

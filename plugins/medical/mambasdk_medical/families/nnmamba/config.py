"""The configuration of an nnMamba. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.config import MedicalConfig

STAGES = 3  # of residual blocks, behind the stem
DIVISOR = 16  # the stem and every stage halve


@dataclass
class NnMambaConfig(MedicalConfig):
    """An nnMamba; the defaults are those of arXiv 2402.03526. patch_size has three axes.

    task: "segmentation" gives logits of every voxel, "classification" of the volume. channels: of the stem, which the
    three stages double. blocks: of each stage, 2 or more; all but the first share the stage's Mamba layer. d_state: N.
    relu_logits: end the segmenter's last double convolution in a ReLU as the others do.
    """

    patch_size: Sequence[int] = (96, 96, 96)
    num_classes: int = 6
    task: Literal["segmentation", "classification"] = "segmentation"
    channels: int = 32
    blocks: int = 3
    d_state: int = 16
    relu_logits: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        if self.task not in ("segmentation", "classification"):
            raise InvalidArgumentError(
                "bad task", where=where, expected="'segmentation' or 'classification'", got=repr(self.task)
            )
        for name, least in (("channels", 1), ("blocks", 2), ("d_state", 1)):
            if getattr(self, name) < least:
                raise InvalidArgumentError(
                    f"bad {name}", where=where, expected=f"{least} or more", got=getattr(self, name)
                )
        if self.spatial_dims != 3:
            raise InvalidArgumentError(
                "bad patch_size", where=where, expected="(D, H, W): it is a network of volumes", got=self.patch_size
            )
        if any(extent % self.divisor for extent in self.patch_size):
            raise InvalidArgumentError(
                "bad patch_size", where=where, expected=f"multiples of {self.divisor}: 4 halvings", got=self.patch_size
            )

    @property
    def divisor(self) -> int:
        """Every extent of a patch is a multiple of it: the segmenter's maps double to meet their skips."""
        return DIVISOR if self.task == "segmentation" else 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the stem and of every stage."""
        return tuple(self.channels << stage for stage in range(STAGES + 1))

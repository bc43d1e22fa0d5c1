"""The configuration of a Mamba-YOLO, and the sizes that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn import pair

LEVELS = (128, 256, 512, 1024)  # channels of the four stages before scaling
REPEATS = (3, 3, 9, 3)  # blocks of the four stages before scaling
NECK_SCANS = 3  # in every block of the neck, before scaling
STRIDES = (8, 16, 32)


@dataclass
class MambaYoloConfig:
    """A Mamba-YOLO; the defaults are those of the variant T (arXiv 2406.05835).

    depth: of the numbers of blocks. width: of the channels, of which there are at most max_channels before it.
    num_classes: kinds of objects. in_chans: channels of the image. reg_max: bins in which a side's distance is told.
    imgsz: side of the images that a package's processor makes, or height and width; multiples of 32.
    upstream_widths: leave channels alone that are as many as there are classes, as upstream does by mistake.
    """

    depth: float = 0.33
    width: float = 0.25
    max_channels: int = 1024
    num_classes: int = 80
    in_chans: int = 3
    reg_max: int = 16
    imgsz: int | Sequence[int] = 640
    upstream_widths: bool = False

    def __post_init__(self) -> None:
        where = type(self).__name__
        for name in ("max_channels", "num_classes", "in_chans", "reg_max"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < (2 if name == "reg_max" else 1):
                raise InvalidArgumentError(f"bad {name}", where=where, expected="a positive integer", got=repr(value))
        for name in ("depth", "width"):
            if not getattr(self, name) > 0:
                raise InvalidArgumentError(f"bad {name}", where=where, expected="above 0", got=getattr(self, name))
        self.imgsz = pair(self.imgsz, "imgsz", where)
        if any(side % STRIDES[-1] for side in self.imgsz):
            raise InvalidArgumentError(
                "bad imgsz", where=where, expected=f"multiples of {STRIDES[-1]}", got=tuple(self.imgsz)
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that a package's processor makes."""
        return pair(self.imgsz, "imgsz", type(self).__name__)

    def channels(self, nominal: int) -> int:
        """Of a layer that has `nominal` before scaling: a multiple of 8."""
        if self.upstream_widths and nominal == self.num_classes:
            return nominal
        return math.ceil(min(nominal, self.max_channels) * self.width / 8) * 8

    def repeats(self, nominal: int) -> int:
        """Of what there is `nominal` times before scaling; halves go to even numbers."""
        return max(round(nominal * self.depth), 1)

"""The configuration of a FER-YOLO-Mamba."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn import pair

MULTIPLE = 32  # of the sides of images
_LEAST_WIDTH = 0.125  # below it the attention of the smallest block has no hidden channel


@dataclass
class FerYoloMambaConfig:
    """A FER-YOLO-Mamba; the defaults are those of the published size s (arXiv 2405.01828).

    depth: of the numbers of blocks. width: of the channels, 0.125 or more. num_classes: expressions. in_chans: channels
    of the image. imgsz: side of the images that a package's processor makes, or height and width; multiples of 32.
    upstream_strides: train as if the first map had a stride of 8, where it has 16, as upstream does; boxes are decoded
    by the true strides either way. upstream_groups: leave the scans' own parameters (`x_proj_weight`,
    `dt_projs_weight`, `dt_projs_bias`, `A_logs`, `Ds`) as they were drawn, as upstream's optimizer does. upstream_init:
    draw all convolutions with a deviation of 0.02, whatever they sum over, and begin with an object at every second
    place, as upstream does; AdamW's steps are large beside such weights, and expressions are learnt late.
    """

    depth: float = 0.33
    width: float = 0.5
    num_classes: int = 7
    in_chans: int = 3
    imgsz: int | Sequence[int] = 320
    upstream_strides: bool = False
    upstream_groups: bool = False
    upstream_init: bool = False

    def __post_init__(self) -> None:
        where = type(self).__name__
        for name in ("num_classes", "in_chans"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidArgumentError(f"bad {name}", where=where, expected="a positive integer", got=repr(value))
        if not self.depth > 0:
            raise InvalidArgumentError("bad depth", where=where, expected="above 0", got=self.depth)
        if not self.width >= _LEAST_WIDTH or self.width * 64 != int(self.width * 64):
            expected = f"{_LEAST_WIDTH} or more, a multiple of 1/64"
            raise InvalidArgumentError("bad width", where=where, expected=expected, got=self.width)
        self.imgsz = pair(self.imgsz, "imgsz", where)
        if any(side % MULTIPLE for side in self.imgsz):
            raise InvalidArgumentError(
                "bad imgsz", where=where, expected=f"multiples of {MULTIPLE}", got=tuple(self.imgsz)
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that a package's processor makes."""
        return pair(self.imgsz, "imgsz", type(self).__name__)

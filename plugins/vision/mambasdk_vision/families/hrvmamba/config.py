"""The configuration of an HRVMamba."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn.image_input import pair

BRANCHES = 4
_TASKS = ("classification", "pose", "segmentation")


@dataclass
class HRVMambaConfig:
    """An HRVMamba (arXiv 2410.03174); the defaults are those of the Small classifier.

    task: "classification", an image to logits; "pose", to the maps of its branches; "segmentation", to the maps of the
    classifier's neck, each through a norm. in_chans: channels of the image. num_classes: of the head.
    channels: C of the branch of stride 4, a multiple of 4; those of strides 8, 16 and 32 have 2C, 4C and 8C.
    stem_channels: of the two first convolutions. stage1_channels: inside the first bottlenecks, which give 4 times as
    many. stage1_blocks: how many of these. num_modules: of the stages with two, three and four branches, each module
    num_blocks blocks on every branch and a fusion.
    ssm_ratio: D / C of the scan. mlp_ratio: hidden width of the MLP per channel. se_lpu: squeeze-and-excitation and
    local perception in every block. projections: value and output projections of the deformable convolution, which
    published parameter counts do not have. offset_scale: see DCNv4. ssm_drop_rate: dropout after the scan.
    drop_path_rate: of the last block. multiscale_output: all branches come out, else that of stride 4 alone ("pose").
    neck_channels: of the classifier's maps at strides 4 to 32. neck_features: what its head sees.
    img_size: side, or height and width, of the images that a package's processor makes; any size of 32 or more works.
    """

    task: Literal["classification", "pose", "segmentation"] = "classification"
    in_chans: int = 3
    num_classes: int = 1000
    channels: int = 32
    stem_channels: int = 64
    stage1_channels: int = 64
    stage1_blocks: int = 2
    num_modules: Sequence[int] = (1, 4, 2)
    num_blocks: int = 2
    ssm_ratio: float = 2.0
    mlp_ratio: float = 2.0
    se_lpu: bool = False
    projections: bool = False
    offset_scale: float = 1.0
    ssm_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    multiscale_output: bool = True
    neck_channels: Sequence[int] = (128, 256, 512, 1024)
    neck_features: int = 2048
    img_size: int | Sequence[int] = 256

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.num_modules, self.neck_channels = tuple(self.num_modules), tuple(self.neck_channels)
        self.img_size = pair(self.img_size, "img_size", where)
        if self.task not in _TASKS:
            raise InvalidArgumentError("bad task", where=where, expected=" or ".join(_TASKS), got=repr(self.task))
        for name, count in (("num_modules", BRANCHES - 1), ("neck_channels", BRANCHES)):
            values = getattr(self, name)
            if len(values) != count or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values):
                raise InvalidArgumentError(
                    f"bad {name}", where=where, expected=f"{count} integers of 1 or more", got=values
                )
        if self.channels < 4 or self.channels % 4:
            raise InvalidArgumentError(
                "bad channels",
                where=where,
                expected="a multiple of 4, one part for each convolution of a block",
                got=self.channels,
            )
        if not self.multiscale_output and self.task != "pose":
            raise InvalidArgumentError(
                "multiscale_output is off",
                where=where,
                expected="on, unless task is pose",
                got=self.task,
                way_out="the neck needs all branches",
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that a package's processor makes."""
        return pair(self.img_size, "img_size", type(self).__name__)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every branch."""
        return tuple(self.channels << branch for branch in range(BRANCHES))

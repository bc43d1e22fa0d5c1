"""The configuration of a DEKR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn import pair


@dataclass
class DEKRConfig:
    """A bottom-up pose model.

    backbone: the encoder, a family or a variant. backbone_config: what of its configuration is different. keypoints: K,
    17 for COCO and 14 for CrowdPose. input_size: height and width of the image, one integer for both.
    heatmap_filters: channels of the branch of heat maps. displacement_filters: channels of each keypoint in the branch
    of displacements.
    """

    backbone: str = "hrvmamba-mini"
    backbone_config: Mapping[str, Any] = field(default_factory=dict)
    keypoints: int = 17
    input_size: int | Sequence[int] = (512, 512)
    heatmap_filters: int = 32
    displacement_filters: int = 15

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.input_size = pair(self.input_size, "input_size", where)
        self.backbone_config = dict(self.backbone_config)
        for name in ("keypoints", "heatmap_filters", "displacement_filters"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidArgumentError(
                    f"bad {name}", where=where, expected="an integer of 1 or more", got=repr(value)
                )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return pair(self.input_size, "input_size", type(self).__name__)

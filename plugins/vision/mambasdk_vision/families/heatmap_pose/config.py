"""The configuration of a top-down pose model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn import pair


@dataclass
class HeatmapPoseConfig:
    """A top-down pose model.

    backbone: the encoder, a family or a variant. backbone_config: what of its configuration is different. keypoints: K,
    a heat map for each. input_size: height and width of the crop of a person, one integer for both.
    """

    backbone: str = "hrvmamba-mini"
    backbone_config: Mapping[str, Any] = field(default_factory=dict)
    keypoints: int = 17
    input_size: int | Sequence[int] = (256, 192)

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.input_size = pair(self.input_size, "input_size", where)
        self.backbone_config = dict(self.backbone_config)
        if isinstance(self.keypoints, bool) or not isinstance(self.keypoints, int) or self.keypoints < 1:
            raise InvalidArgumentError(
                "bad keypoints", where=where, expected="an integer of 1 or more", got=repr(self.keypoints)
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of a crop."""
        return pair(self.input_size, "input_size", type(self).__name__)

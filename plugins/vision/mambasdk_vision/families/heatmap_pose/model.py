"""An encoder's map of stride 4 and one convolution of side 1: a heat map for each keypoint (arXiv 1804.06208)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.families.heatmap_pose.config import HeatmapPoseConfig
from mambasdk_vision.pose.backbone import PoseModel, backbone_of
from mambasdk_vision.processors import PERSON_CROP

STRIDE = 4  # pixels of a crop per pixel of a heat map


class HeatmapHead(nn.Module):
    """`final_layer`, a convolution of side 1 to one map per keypoint, as mmpose names it."""

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(channels, keypoints, 1)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, h, w) to (B, keypoints, h, w)."""
        y: Tensor = self.final_layer(x)
        return y


class HeatmapPose(nn.Module, PoseModel):
    """Crops of people (B, 3, H, W) to heat maps (B, K, H/4, W/4)."""

    def __init__(self, config: HeatmapPoseConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone_of(config.backbone, config.backbone_config, config.image_size, first_map=True)
        if STRIDE not in self.backbone.map_strides:
            raise InvalidArgumentError(
                f"{config.backbone} gives no map of stride {STRIDE}",
                where="HeatmapPose",
                got=f"strides {self.backbone.map_strides}",
                way_out="choose an encoder whose first map has it",
            )
        self._map = self.backbone.map_strides.index(STRIDE)
        self.head = HeatmapHead(self.backbone.map_channels[self._map], config.keypoints)

    def forward(self, image: Tensor) -> Tensor:
        """Heat maps (B, K, h, w) of crops (B, 3, H, W); h and w are a quarter of H and W, rounded up. Raises ShapeError."""
        maps = self.backbone(image)
        y: Tensor = self.head(maps[self._map])
        return y

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`heatmaps`."""
        return {"heatmaps": self(inputs["image"])}

    def package_processors(self) -> Mapping[str, Mapping[str, Any]]:
        """See ImageModel: crops of the size that the model was built for."""
        return {"image": {**PERSON_CROP, "size": list(self.config.image_size)}}


def build(config: HeatmapPoseConfig) -> HeatmapPose:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return HeatmapPose(config)

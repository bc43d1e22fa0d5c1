"""What the vision families share: channel-last maps, feature pyramids, checks of images."""

from mambasdk_vision.nn.decode_heads import FCNHead, UPerHead
from mambasdk_vision.nn.feature_pyramid import FeaturePyramid, fpn_adapters
from mambasdk_vision.nn.image_input import check_image, pair
from mambasdk_vision.nn.maps import MapConv2d, activation, channel_first, channel_last

__all__ = [
    "FCNHead",
    "FeaturePyramid",
    "MapConv2d",
    "UPerHead",
    "activation",
    "channel_first",
    "channel_last",
    "check_image",
    "fpn_adapters",
    "pair",
]

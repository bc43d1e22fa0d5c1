"""DEKR (arXiv 2104.02300): all maps of an encoder at the first one's size, heat maps, and keypoints from centres."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.families.dekr.config import DEKRConfig
from mambasdk_vision.pose.backbone import PoseModel, backbone_of
from mambasdk_vision.processors import PERSON_CROP

STRIDE = 4  # pixels of the image per pixel of a heat map
_TAPS = 9


def _unit(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution of side 1, its norm and ReLU, as mmpose names them."""
    conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs), activate=nn.ReLU()))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity (arXiv 1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, h, w) to the same shape."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + x)


class AdaptiveConv(nn.Module):
    """The weight (C, C / groups, 3, 3) of a grouped 3 x 3 convolution whose taps lie where they are told to."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(channels, channels // groups, 3, 3))
        nn.init.normal_(self.weight, std=0.001)

    def forward(self, x: Tensor, taps: Tensor) -> Tensor:
        """X (B, C, h, w); taps (B, h, w, groups, 2, 9), y and x of each tap from the pixel, row by row of the window."""
        channel_last = x.permute(0, 2, 3, 1).contiguous()
        one = torch.ones_like(taps[..., :1, 0])
        samples = []
        for tap in range(_TAPS):
            where = torch.cat([taps[..., 1:, tap], taps[..., :1, tap], one], -1)  # (B, h, w, groups, 3)
            entries = where.flatten(3).contiguous()
            samples.append(ops.deformable_sample(channel_last, entries, self.groups, kernel_size=1, padding=0))
        y = torch.stack(samples, -1).flatten(3).permute(0, 3, 1, 2).contiguous()  # (B, 9 C, h, w), taps innermost
        return functional.conv2d(y, self.weight.flatten(1)[..., None, None], groups=self.groups)


class AdaptiveBlock(nn.Module):
    """`relu(x + norm(adapt_conv(x)))`, of every keypoint's channels by themselves.

    What is built: of each pixel and keypoint `transform_matrix_conv`, a grouped 3 x 3 convolution, gives six numbers, a
    2 x 2 matrix A and a vector b, and the tap (ty, tx) of a 3 x 3 convolution lies at (ty, tx) + A (ty, tx) + b from
    the pixel, sampled bilinearly, 0 outside. The paper writes the affine map itself where A here is its difference to
    the identity, as mmpose has it: both give the same functions, and near-zero weights begin as a plain convolution.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.transform_matrix_conv = nn.Conv2d(channels, 6 * groups, 3, padding=1, groups=groups)
        nn.init.normal_(self.transform_matrix_conv.weight, std=0.001)
        nn.init.zeros_(self.transform_matrix_conv.bias)  # type: ignore[arg-type]
        self.adapt_conv = AdaptiveConv(channels, groups)
        self.norm = nn.BatchNorm2d(channels)
        sides = torch.tensor([-1.0, 0.0, 1.0], device="cpu")
        rows, columns = sides.repeat_interleave(3), sides.repeat(3)
        self.register_buffer("regular_matrix", torch.stack([rows, columns, torch.ones(_TAPS, device="cpu")]))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, h, w) to the same shape."""
        regular: Any = self.regular_matrix.to(x)  # type: ignore[operator, union-attr]
        affine = self.transform_matrix_conv(x).permute(0, 2, 3, 1)  # (B, h, w, 6 groups)
        affine = affine.unflatten(3, (self.groups, 2, 3))
        taps = affine @ regular + regular[:2]
        return functional.relu(self.norm(self.adapt_conv(x, taps)) + x)


class DEKRHead(nn.Module):
    """`heatmap_conv_layers` and `displacement_conv_layers`, under mmpose's names."""

    def __init__(self, channels: int, config: DEKRConfig) -> None:
        super().__init__()
        keypoints, filters = config.keypoints, config.heatmap_filters
        self.heatmap_conv_layers = nn.Sequential(
            _unit(channels, filters), BasicBlock(filters), nn.Conv2d(filters, keypoints + 1, 1)
        )
        inner = keypoints * config.displacement_filters
        self.displacement_conv_layers = nn.Sequential(
            _unit(channels, inner),
            AdaptiveBlock(inner, keypoints),
            AdaptiveBlock(inner, keypoints),
            nn.Conv2d(inner, 2 * keypoints, 1, groups=keypoints),
        )
        for last in (self.heatmap_conv_layers[-1], self.displacement_conv_layers[-1]):
            nn.init.normal_(last.weight, std=0.001)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Heat maps (B, K + 1, h, w) and displacements (B, 2 K, h, w) of x (B, C, h, w)."""
        return self.heatmap_conv_layers(x), self.displacement_conv_layers(x)


class DEKR(nn.Module, PoseModel):
    """Images (B, 3, H, W) to heat maps of keypoints and centres, and displacements from centres to keypoints."""

    def __init__(self, config: DEKRConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone_of(config.backbone, config.backbone_config, config.image_size)
        if self.backbone.map_strides[0] != STRIDE:
            raise InvalidArgumentError(
                f"the first map of {config.backbone} is not of stride {STRIDE}",
                where="DEKR",
                got=f"strides {self.backbone.map_strides}",
                way_out="choose an encoder whose first map has it",
            )
        self.head = DEKRHead(sum(self.backbone.map_channels), config)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Heat maps (B, K + 1, h, w), the last of centres, and displacements (B, 2 K, h, w), x and y of each keypoint.

        image: (B, 3, H, W); h and w are a quarter of H and W, rounded up. Maps of other strides are made as large as the
        first one, linear between elements. Raises ShapeError.
        """
        first, *others = self.backbone(image)
        size = (first.shape[2], first.shape[3])
        larger = [functional.interpolate(x, size, mode="bilinear", align_corners=False) for x in others]
        heatmaps, displacements = self.head(torch.cat([first, *larger], 1))
        return heatmaps, displacements

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`heatmaps` and `displacements`."""
        heatmaps, displacements = self(inputs["image"])
        return {"heatmaps": heatmaps, "displacements": displacements}

    def package_processors(self) -> Mapping[str, Mapping[str, Any]]:
        """See ImageModel: the whole image at its aspect, with zeros about it."""
        return {"image": {**PERSON_CROP, "size": list(self.config.image_size), "padding": 1.0}}


def build(config: DEKRConfig) -> DEKR:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return DEKR(config)

"""nnMamba: a residual encoder of volumes, and its ends: logits of every voxel, or of the volume."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from mambasdk_medical.families.nnmamba.config import DIVISOR, NnMambaConfig
from mambasdk_medical.families.nnmamba.layers import DoubleConv, ResidualStage, SkipGate
from mambasdk_medical.model import MedicalModel, MedicalSegmenter
from mambasdk_medical.nn.spatial import LinearUpsample


class NnMambaEncoder(nn.Module):
    """Stem and three stages.

    A reading: the published facts give the layers and the segmenter's number of parameters, 15,944,958 for six
    classes, which is met where double convolutions have biases and residual ones have none, N is 16, and the three
    skips have gates. The Mamba layer of a block sees what the block sees.
    """

    def __init__(self, config: NnMambaConfig) -> None:
        super().__init__()
        self.config = config
        self.in_conv = DoubleConv(config.in_channels, config.channels, 2)
        self.layer1, self.layer2, self.layer3 = (
            ResidualStage(before, channels, config.blocks, config.d_state)
            for before, channels in itertools.pairwise(config.widths)
        )

    def maps(self, image: Tensor) -> list[Tensor]:
        """Image (B, C, D, H, W) to maps of 1/2, 1/4, 1/8 and 1/16 of its size."""
        maps = [self.in_conv(image)]
        for stage in (self.layer1, self.layer2, self.layer3):
            maps.append(stage(maps[-1]))
        return maps


class NnMambaSegmenter(NnMambaEncoder, MedicalSegmenter):
    """Image (B, C, D, H, W) to logits (B, classes, D, H, W); extents are multiples of 16.

    Each map is doubled, put beside the next larger one, whose channels are gated, and goes through a double
    convolution; the last, at the image's size, has no skip and makes the logits. Source: arXiv 2402.03526.
    """

    config: NnMambaConfig

    def __init__(self, config: NnMambaConfig) -> None:
        super().__init__(config)
        first, second, third, deepest = config.widths
        self.att1, self.att2, self.att3 = SkipGate(first), SkipGate(second), SkipGate(third)
        self.conv5 = DoubleConv(deepest + third, third)
        self.conv6 = DoubleConv(third + second, second)
        self.conv7 = DoubleConv(second + first, first)
        self.conv8 = DoubleConv(first, config.num_classes, last_relu=config.relu_logits)
        self.up = LinearUpsample(3)

    @property
    def patch_divisor(self) -> tuple[int, ...]:
        """16 of every axis."""
        return (DIVISOR,) * 3

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, D, H, W) of image (B, C, D, H, W). Raises ShapeError."""
        self.check_image(image)
        *skips, x = self.maps(image)
        gates = (self.att3, self.att2, self.att1)
        for gate, skip, merge in zip(gates, reversed(skips), (self.conv5, self.conv6, self.conv7), strict=True):
            x = merge(torch.cat([self.up(x), gate(skip)], dim=1))
        logits: Tensor = self.conv8(self.up(x))
        return logits


class NnMambaClassifier(NnMambaEncoder, MedicalModel):
    """Image (B, C, D, H, W) of any size to logits (B, classes).

    A reading, as the facts leave this end open: the means of the three stages' maps side by side, one hidden layer of
    the stem's width with ReLU and dropout of a half, and a linear layer.
    """

    config: NnMambaConfig

    def __init__(self, config: NnMambaConfig) -> None:
        super().__init__(config)
        stem, *widths = config.widths
        self.mlp = nn.Sequential(
            nn.Linear(sum(widths), stem), nn.ReLU(), nn.Dropout(0.5), nn.Linear(stem, config.num_classes)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes) of image (B, C, D, H, W). Raises ShapeError."""
        self.check_image(image)
        means = [x.mean(dim=(2, 3, 4)) for x in self.maps(image)[1:]]
        logits: Tensor = self.mlp(torch.cat(means, dim=1))
        return logits

    @property
    def package_head(self) -> str | None:
        """None: a package gives the logits."""
        return None


def build(config: NnMambaConfig) -> NnMambaSegmenter | NnMambaClassifier:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return NnMambaClassifier(config) if config.task == "classification" else NnMambaSegmenter(config)

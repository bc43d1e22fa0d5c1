"""LightM-UNet: an encoder of residual Mamba blocks, a decoder of convolutions, skips that are added."""

from __future__ import annotations

from torch import Tensor, nn

from mambasdk_medical.families.lightm_unet.blocks import (
    DenseUpBlock,
    ResidualVisionMamba,
    ResMambaBlock,
    ResUpBlock,
    WrappedConv,
    depthwise_conv,
    group_norm,
)
from mambasdk_medical.families.lightm_unet.config import LightMUNetConfig
from mambasdk_medical.model import MedicalSegmenter
from mambasdk_medical.nn.spatial import LinearUpsample, max_pool


class LightMUNet(nn.Module, MedicalSegmenter):
    """Image (B, C, *S) to logits (B, classes, *S); every extent is a multiple of 2^(levels - 1).

    Parameter names are upstream's. Source: arXiv 2403.05246.
    """

    config: LightMUNetConfig

    def __init__(self, config: LightMUNetConfig) -> None:
        super().__init__()
        self.config = config
        dims, widths = config.spatial_dims, config.widths
        dense, piece = config.decoder == "dense", config.piece_length
        first, classes = widths[0], config.num_classes
        self.convInit = (
            WrappedConv(dims, config.in_channels, first, 3)
            if dense
            else depthwise_conv(dims, config.in_channels, first, 3)
        )
        self.down_layers = nn.ModuleList()
        for level, (channels, count) in enumerate(zip(widths, config.blocks_down, strict=True)):
            enter: nn.Module = nn.Identity()
            if level:
                enter = nn.Sequential(ResidualVisionMamba(widths[level - 1], channels, piece), max_pool(dims))
            self.down_layers.append(nn.Sequential(enter, *(ResMambaBlock(channels, piece) for _ in range(count))))
        self.up_samples, self.up_layers = nn.ModuleList(), nn.ModuleList()
        block = DenseUpBlock if dense else ResUpBlock
        for channels, count in zip(widths[-2::-1], config.blocks_up, strict=True):
            self.up_samples.append(nn.Sequential(WrappedConv(dims, 2 * channels, channels, 1), LinearUpsample(dims)))
            self.up_layers.append(nn.Sequential(*(block(dims, channels) for _ in range(count))))
        end = (
            WrappedConv(dims, first, classes, 1, bias=True)
            if dense
            else depthwise_conv(dims, first, classes, 1, bias=True)
        )
        self.conv_final = nn.Sequential(group_norm(first), nn.ReLU(inplace=True), end)

    @property
    def patch_divisor(self) -> tuple[int, ...]:
        """Of every axis, as often as the encoder halves."""
        return (self.config.divisor,) * self.config.spatial_dims

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, *S) of image (B, C, *S). Raises ShapeError."""
        self.check_image(image)
        x = self.convInit(image)
        skips: list[Tensor] = []
        for down in self.down_layers:
            x = down(x)
            skips.append(x)
        skips.pop()
        for enlarge, up in zip(self.up_samples, self.up_layers, strict=True):
            x = up(enlarge(x) + skips.pop())
        logits: Tensor = self.conv_final(x)
        return logits


def build(config: LightMUNetConfig) -> LightMUNet:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return LightMUNet(config)

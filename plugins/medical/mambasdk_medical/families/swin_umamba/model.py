"""Swin-UMamba: a stem, VMamba's encoder, residual convolutions on the skips and up to the image's size."""

from __future__ import annotations

from torch import Tensor, nn

from mambasdk_medical.families.swin_umamba.config import SwinUMambaConfig
from mambasdk_medical.families.swin_umamba.encoder import SwinEncoder
from mambasdk_medical.families.swin_umamba.scan_decoder import SwinUMambaD
from mambasdk_medical.model import MedicalSegmenter
from mambasdk_medical.nn.convolutions import Conv2d
from mambasdk_medical.nn.unetr import NamedConv, UnetrBlock, UnetrUp
from mambasdk_medical.nn.vss_unet import init_vss
from mambasdk_vision.nn import channel_first

_STEM_KERNEL, _STEM_STRIDE, _PATCH = 7, 2, 2


class SwinUMamba(nn.Module, MedicalSegmenter):
    """`image` (B, C, H, W) to `logits` (B, classes, H, W).

    Skips are the image, the stem's map and those of all stages but the last, each through a residual block with the
    channels of the map below it. Parameter names are upstream's, but that the merging of patches behind stage i is
    `vssm_encoder.layers.i.downsample`, as in VMamba. Source: arXiv 2402.03302.
    """

    config: SwinUMambaConfig

    def __init__(self, config: SwinUMambaConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.stem_width, *config.dims)
        stem = Conv2d(config.in_channels, widths[0], _STEM_KERNEL, _STEM_STRIDE, _STEM_KERNEL // 2)
        self.stem = nn.Sequential(stem, nn.GroupNorm(widths[0], widths[0]))  # an instance norm with weights
        self.vssm_encoder = SwinEncoder(config, widths[0], _PATCH)
        for level, (channels, following) in enumerate(zip((config.in_channels, *widths), widths, strict=False), 1):
            self.add_module(f"encoder{level}", UnetrBlock(2, channels, following))
        last = len(widths)
        self.add_module(f"decoder{last + 1}", UnetrUp(2, widths[-1], widths[-1]))
        for level in range(last, 1, -1):
            self.add_module(f"decoder{level}", UnetrUp(2, widths[level - 1], widths[level - 2]))
        self.decoder1 = UnetrBlock(2, widths[0], widths[0])
        self.out_layers = nn.ModuleList(
            nn.ModuleDict({"conv": NamedConv(2, width, config.num_classes, 1, bias=True)}) for width in widths[:-1]
        )
        init_vss(self)

    @property
    def patch_divisor(self) -> tuple[int, ...]:
        """See MedicalSegmenter: by the stem, by its patches, and between stages."""
        return (self.config.divisor,) * 2

    def _maps(self, image: Tensor) -> list[Tensor]:
        """What the layers of `out_layers` see: maps at the image's size, at half of it, …"""
        self.check_image(image)
        small = self.stem(image)
        maps = [image, small, *(channel_first(x) for x in self.vssm_encoder(small))]
        x, found = maps.pop(), []
        for level in range(len(maps), 0, -1):
            skip = self.get_submodule(f"encoder{level}")(maps[level - 1])
            x = self.get_submodule(f"decoder{level + 1}")(x, skip)
            found.append(x)
        return [self.decoder1(x), *found[-2:0:-1]]

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, H, W); image (B, C, H, W) with sides of `patch_divisor`. Raises ShapeError."""
        return self._logits(0, self._maps(image)[0])

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        """See MedicalSegmenter: at full size, a half, a quarter, … as many as the encoder has stages."""
        maps = self._maps(image)
        return [self._logits(i, x) for i, x in enumerate(maps[: None if self.config.deep_supervision else 1])]

    def _logits(self, index: int, x: Tensor) -> Tensor:
        y: Tensor = self.out_layers[index].get_submodule("conv")(x)
        return y


def build(config: SwinUMambaConfig) -> SwinUMamba | SwinUMambaD:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return SwinUMambaD(config) if config.decoder == "scans" else SwinUMamba(config)

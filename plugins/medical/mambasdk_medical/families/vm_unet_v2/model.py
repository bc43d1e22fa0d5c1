"""VM-UNet V2: an encoder of VSS blocks, and a convolutional decoder over products of its maps (arXiv 2403.09157).

Upstream's code, whose files this reads, decides what its paper leaves open, and has two parts without effect that are
kept for them: the encoder's maps are what its stages take, so that the last stage's blocks are never run, and there is
one transposed convolution more than levels to go up (`deconv5` of the published model).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from mambasdk_medical.families.vm_unet_v2.config import VMUNetV2Config
from mambasdk_medical.families.vm_unet_v2.fusion import ChannelAttention, DetailInfusion, PointNorm, SpatialAttention
from mambasdk_medical.nn.vss import VSSBlock, VSSEncoder, drop_rates
from mambasdk_medical.nn.vss_config import STEM
from mambasdk_medical.nn.vss_unet import VSSSegmenter, init_vss
from mambasdk_vision.nn import channel_first


class VMUNetV2(nn.Module, VSSSegmenter):
    """Image (B, C, H, W) to logits (B, classes, H, W). Upstream's sigmoid is left to who reads them.

    Parameters have upstream's names: `vmunet` the encoder; for level i from 1, the finest, `ca_i`, `sa_i`,
    `Translayer_i` and `sdi_i`; `deconv2`, `deconv3`, … from the coarsest level up; `seg_outs`, the coarsest first.
    """

    config: VMUNetV2Config

    def __init__(self, config: VMUNetV2Config) -> None:
        super().__init__()
        self.config = config
        width, levels = config.mid_channel, len(config.dims)
        for level, channels in enumerate(config.dims, 1):
            self.add_module(f"ca_{level}", ChannelAttention(channels))
            self.add_module(f"sa_{level}", SpatialAttention())
            self.add_module(f"Translayer_{level}", PointNorm(channels, width))
            self.add_module(f"sdi_{level}", DetailInfusion(width, levels))
        self.seg_outs = nn.ModuleList(nn.Conv2d(width, config.num_classes, 1) for _ in range(levels))
        for index in range(2, levels + 2):
            self.add_module(f"deconv{index}", nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False))
        last = nn.ConvTranspose2d(config.num_classes, config.num_classes, 3, 2, 1, output_padding=1)
        self.add_module(f"deconv{levels + 2}", last)

        def block(channels: int, drop_path: float) -> nn.Module:
            return VSSBlock(channels, config.d_state, drop_path=drop_path)

        rates = drop_rates(config.drop_path_rate, config.depths)
        self.vmunet = VSSEncoder(config.stem_channels, config.dims, config.depths, block, rates, STEM)
        init_vss(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, H, W); image (B, C, H, W) with sides of `patch_divisor`. Raises ShapeError."""
        return self._logits(self._decoded(image))

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        """With deep supervision the logits, and those of the coarser levels at 1/2, 1/4, … of the image's sides."""
        decoded = self._decoded(image)
        outputs = [self._logits(decoded)]
        if self.config.deep_supervision:
            outputs += [self._level_logits(decoded, level) for level in range(1, len(decoded))]
        return outputs

    def _decoded(self, image: Tensor) -> list[Tensor]:
        """The decoder's maps (B, width, h, w), the finest first."""
        stages = self.vmunet.stage_inputs(self.stem_image(image))
        maps = [self._narrowed(channel_first(x), level) for level, x in enumerate(stages, 1)]
        y: Tensor | None = None
        found: list[Tensor] = []
        for step, level in enumerate(reversed(range(len(maps)))):
            infused = self.get_submodule(f"sdi_{level + 1}")(maps, level)
            y = infused if y is None else self.get_submodule(f"deconv{step + 1}")(y) + infused
            found.insert(0, y)
        return found

    def _narrowed(self, x: Tensor, level: int) -> Tensor:
        for name in ("ca", "sa", "Translayer"):
            x = self.get_submodule(f"{name}_{level}")(x)
        return x

    def _level_logits(self, decoded: list[Tensor], level: int) -> Tensor:
        """Of a level, 0 the finest, at four times its sides."""
        coarse = self.seg_outs[len(decoded) - 1 - level](decoded[level])
        return functional.interpolate(coarse, scale_factor=float(STEM), mode="bilinear")

    def _logits(self, decoded: list[Tensor]) -> Tensor:
        finest = self._level_logits(decoded, 0)
        if not self.config.deep_supervision:
            return finest
        last = self.get_submodule(f"deconv{len(decoded) + 2}")
        y: Tensor = finest + last(self._level_logits(decoded, 1))
        return y


def build(config: VMUNetV2Config) -> VMUNetV2:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return VMUNetV2(config)

"""U-Nets whose encoder and decoder are of VSS blocks, or of blocks like them (arXiv 2402.02491)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mambasdk.nn import LayerNorm
from mambasdk_medical.model import MedicalSegmenter
from mambasdk_medical.nn.vss import MakeBlock, PatchExpand, VSSEncoder, drop_rates
from mambasdk_medical.nn.vss_config import COLOUR, GREY, STEM, VSSConfig, VSSUNetConfig
from mambasdk_vision.nn import channel_first


class VSSSegmenter(MedicalSegmenter):
    """Base of a segmenter of images (B, C, H, W), beside `torch.nn.Module`; grey images may have one channel."""

    config: VSSConfig

    @property
    def patch_divisor(self) -> tuple[int, ...]:
        """See MedicalSegmenter."""
        return (self.config.divisor,) * 2

    def stem_image(self, image: Tensor) -> Tensor:
        """The image with the channels that the patch embedding takes. Raises ShapeError."""
        if self.config.in_channels == COLOUR:
            image = _coloured(image)
        self.check_image(image)
        return _coloured(image)


class UpStage(nn.Module):
    """The way from the stage below, then blocks."""

    def __init__(self, upsample: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.upsample = upsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, h, w, C) to the stage's."""
        y: Tensor = self.blocks(self.upsample(x))
        return y


class VSSUNet(VSSEncoder, VSSSegmenter):
    """Image (B, C, H, W) to logits (B, classes, H, W).

    What a stage of the encoder takes is added to what the decoder's stage of that width gives. Parameters have
    upstream's names: `patch_embed`, `layers`, `layers_up`, `final_up`, `final_conv`.
    """

    config: VSSUNetConfig

    def __init__(self, config: VSSUNetConfig, block: MakeBlock) -> None:
        super().__init__(
            config.stem_channels,
            config.dims,
            config.depths,
            block,
            drop_rates(config.drop_path_rate, config.depths),
            STEM,
        )
        self.config = config
        widths = tuple(reversed(config.dims))
        rates = drop_rates(config.drop_path_rate, config.depths_decoder)
        self.layers_up = nn.ModuleList()
        for index, (channels, depth) in enumerate(zip(widths, config.depths_decoder, strict=True)):
            way = PatchExpand(widths[index - 1], channels) if index else nn.Identity()
            self.layers_up.append(UpStage(way, [block(channels, rates.pop()) for _ in range(depth)]))
        self.final_up = PatchExpand(widths[-1], widths[-1] // STEM, STEM)
        self.final_conv = nn.Conv2d(widths[-1] // STEM, config.num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, H, W); image (B, C, H, W) with sides of `patch_divisor`. Raises ShapeError."""
        skips = self.stage_inputs(self.stem_image(image))
        x = self.last_map(skips)
        for index, stage in enumerate(self.layers_up):
            x = stage(x + skips[-index] if index else x)
        y: Tensor = self.final_conv(channel_first(self.final_up(x)))
        return y


def init_vss(model: Any) -> None:
    """Linear layers normal with deviation 0.02, norms 1 and 0; scans and convolutions keep what they began with."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, LayerNorm):
            nn.init.ones_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _coloured(image: Tensor) -> Tensor:
    grey = image.ndim == 4 and image.shape[1] == GREY
    return image.expand(-1, COLOUR, -1, -1) if grey else image

"""Swin-UMamba-D: VMamba's encoder on the image itself, and a decoder of VSS blocks and expanded patches."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from mambasdk_medical.families.swin_umamba.config import SwinUMambaConfig
from mambasdk_medical.families.swin_umamba.encoder import SwinEncoder
from mambasdk_medical.model import MedicalSegmenter
from mambasdk_medical.nn.vss import PatchExpand, VSSBlock, drop_rates
from mambasdk_medical.nn.vss_config import STEM
from mambasdk_medical.nn.vss_unet import init_vss
from mambasdk_vision.nn import channel_first


class ScanStage(nn.Module):
    """`blocks`: VSS blocks, one after another; none at the end of a decoder."""

    def __init__(self, channels: int, d_state: int, rates: list[float]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(VSSBlock(channels, d_state, drop_path=rate) for rate in rates))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        y: Tensor = self.blocks(x)
        return y


class ScanDecoder(nn.Module):
    """Maps of every stage of an encoder, largest first, to logits of every stage, largest first.

    Each step: the map below expanded to twice its sides, the skip beside it, a linear layer back to the skip's
    channels, VSS blocks; the last step expands to four times the sides. Paths drop most in the deepest stage.
    """

    def __init__(self, config: SwinUMambaConfig) -> None:
        super().__init__()
        widths, depth = tuple(reversed(config.dims)), config.decoder_depth
        rates = drop_rates(config.drop_path_rate, [depth] * (len(widths) - 1))[::-1]
        stages: list[nn.Module] = []
        expand, back = [], []
        for index, (below, channels) in enumerate(pairwise(widths)):
            expand.append(PatchExpand(below, channels))
            back.append(nn.Linear(2 * channels, channels))
            stages.append(ScanStage(channels, config.d_state, rates[index * depth : (index + 1) * depth]))
        self.stages = nn.ModuleList([*stages, nn.Identity()])
        self.expand_layers = nn.ModuleList([*expand, PatchExpand(widths[-1], widths[-1], STEM)])
        self.concat_back_dim = nn.ModuleList(back)
        self.seg_layers = nn.ModuleList(
            nn.Conv2d(channels, config.num_classes, 1) for channels in (*widths[1:], widths[-1])
        )

    def forward(self, maps: list[Tensor], *, coarser: bool) -> list[Tensor]:
        """Logits (B, classes, *size), at the image's size first; the others where `coarser` says so."""
        x, found = maps[-1], []
        last = len(self.stages) - 1
        for index, (expand, stage, layer) in enumerate(
            zip(self.expand_layers, self.stages, self.seg_layers, strict=True)
        ):
            x = expand(x)
            if index < last:
                x = self.concat_back_dim[index](torch.cat([x, maps[last - 1 - index]], dim=-1))
            x = stage(x)
            if coarser or index == last:
                found.append(layer(channel_first(x)))
        return found[::-1]


class SwinUMambaD(nn.Module, MedicalSegmenter):
    """`image` (B, C, H, W) to `logits` (B, classes, H, W); names as in SwinUMamba. Source: arXiv 2402.03302."""

    config: SwinUMambaConfig

    def __init__(self, config: SwinUMambaConfig) -> None:
        super().__init__()
        self.config = config
        self.vssm_encoder = SwinEncoder(config, config.in_channels, STEM)
        self.decoder = ScanDecoder(config)
        init_vss(self)

    @property
    def patch_divisor(self) -> tuple[int, ...]:
        """See MedicalSegmenter: by the first patches and between stages."""
        return (self.config.divisor,) * 2

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, H, W); image (B, C, H, W) with sides of `patch_divisor`. Raises ShapeError."""
        return self._decoded(image, coarser=False)[0]

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        """See MedicalSegmenter: at full size, a quarter, an eighth, … as many as the encoder has stages."""
        return self._decoded(image, coarser=self.config.deep_supervision)

    def _decoded(self, image: Tensor, *, coarser: bool) -> list[Tensor]:
        self.check_image(image)
        found: list[Tensor] = self.decoder(self.vssm_encoder(image), coarser=coarser)
        return found

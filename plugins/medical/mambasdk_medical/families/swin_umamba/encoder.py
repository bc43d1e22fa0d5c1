"""The encoder of both variants: VMamba's first version without its end, and the map of every stage."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mambasdk_medical.families.swin_umamba.config import SwinUMambaConfig
from mambasdk_medical.nn.vss import VSSBlock, VSSEncoder, drop_rates


class SwinEncoder(VSSEncoder):
    """Maps of every stage before its merging of patches. Source: arXiv 2402.03302, of arXiv 2401.10166.

    channels: of what comes in. patch: side of the first patches.
    """

    def __init__(self, config: SwinUMambaConfig, channels: int, patch: int) -> None:
        def block(width: int, drop_path: float) -> nn.Module:
            return VSSBlock(width, config.d_state, drop_path=drop_path)

        rates = drop_rates(config.drop_path_rate, config.depths)
        super().__init__(channels, config.dims, config.depths, block, rates, patch)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map x (B, C, H, W) to maps (B, h, w, width), largest first."""
        y: Tensor = self.patch_embed(x)
        maps = []
        for stage in self.layers:
            layer: Any = stage
            y = layer.blocks(y)
            maps.append(y)
            y = layer.downsample(y)
        return maps

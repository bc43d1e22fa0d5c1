"""VM-UNet: the U-Net of VSS blocks (arXiv 2402.02491)."""

from __future__ import annotations

from torch import nn

from mambasdk_medical.families.vm_unet.config import VMUNetConfig
from mambasdk_medical.nn.vss import VSSBlock
from mambasdk_medical.nn.vss_unet import VSSUNet, init_vss


class VMUNet(VSSUNet):
    """Image (B, C, H, W) to logits (B, classes, H, W). Upstream's sigmoid of one class is left to who reads them."""

    def __init__(self, config: VMUNetConfig) -> None:
        def block(channels: int, drop_path: float) -> nn.Module:
            return VSSBlock(channels, config.d_state, drop_path=drop_path)

        super().__init__(config, block)
        init_vss(self)


def build(config: VMUNetConfig) -> VMUNet:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return VMUNet(config)

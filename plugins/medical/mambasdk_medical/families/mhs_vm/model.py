"""MHS-VM: the U-Net of VM-UNet with heads that scan along routes of their own (arXiv 2406.05992)."""

from __future__ import annotations

from torch import nn

from mambasdk_medical.families.mhs_vm.config import MHSVMConfig
from mambasdk_medical.families.mhs_vm.mixer import VSSGate
from mambasdk_medical.nn.vss import PreNormBlock
from mambasdk_medical.nn.vss_unet import VSSUNet, init_vss


class MHSVM(VSSUNet):
    """Image (B, C, H, W) to logits (B, classes, H, W). Upstream's sigmoid of one class is left to who reads them."""

    def __init__(self, config: MHSVMConfig) -> None:
        def block(channels: int, drop_path: float) -> nn.Module:
            attention = VSSGate(
                channels,
                config.d_state,
                config.head_num,
                with_proj=config.with_proj,
                threshold=config.gfu_t,
            )
            return PreNormBlock(channels, attention, drop_path)

        super().__init__(config, block)
        init_vss(self)


def build(config: MHSVMConfig) -> MHSVM:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return MHSVM(config)

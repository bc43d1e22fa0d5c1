"""UltraLight VM-UNet (arXiv 2403.20035): a segmenter of 49,457 parameters with shared Mamba mixers. Needs torch."""

from mambasdk_medical.families.ultralight_vm_unet.bridge import AttentionBridge, ChannelBridge, SpatialBridge
from mambasdk_medical.families.ultralight_vm_unet.checkpoint import import_ultralight_vm_unet
from mambasdk_medical.families.ultralight_vm_unet.config import UltraLightVMUNetConfig
from mambasdk_medical.families.ultralight_vm_unet.model import UltraLightVMUNet, build
from mambasdk_medical.families.ultralight_vm_unet.parallel_mamba import ParallelMamba

__all__ = [
    "AttentionBridge",
    "ChannelBridge",
    "ParallelMamba",
    "SpatialBridge",
    "UltraLightVMUNet",
    "UltraLightVMUNetConfig",
    "build",
    "import_ultralight_vm_unet",
]

"""VM-UNet V2 (arXiv 2403.09157): an encoder of VSS blocks whose maps of all levels are multiplied. Needs torch."""

from mambasdk_medical.families.vm_unet_v2.checkpoint import import_vm_unet_v2
from mambasdk_medical.families.vm_unet_v2.config import VMUNetV2Config
from mambasdk_medical.families.vm_unet_v2.fusion import ChannelAttention, DetailInfusion, SpatialAttention
from mambasdk_medical.families.vm_unet_v2.model import VMUNetV2, build
from mambasdk_medical.nn.vss_checkpoint import begin_from_vmamba

__all__ = [
    "ChannelAttention",
    "DetailInfusion",
    "SpatialAttention",
    "VMUNetV2",
    "VMUNetV2Config",
    "begin_from_vmamba",
    "build",
    "import_vm_unet_v2",
]

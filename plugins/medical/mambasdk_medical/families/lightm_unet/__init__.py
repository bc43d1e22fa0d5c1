"""LightM-UNet (arXiv 2403.05246): a small U-Net of Residual Vision Mamba layers, in 2-D and 3-D. Needs torch."""

from mambasdk_medical.families.lightm_unet.blocks import ResidualVisionMamba, ResMambaBlock, ResUpBlock
from mambasdk_medical.families.lightm_unet.checkpoint import import_lightm_unet
from mambasdk_medical.families.lightm_unet.config import LightMUNetConfig
from mambasdk_medical.families.lightm_unet.model import LightMUNet, build

__all__ = [
    "LightMUNet",
    "LightMUNetConfig",
    "ResMambaBlock",
    "ResUpBlock",
    "ResidualVisionMamba",
    "build",
    "import_lightm_unet",
]

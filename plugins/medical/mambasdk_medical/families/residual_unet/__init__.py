"""The residual U-Net of nnU-Net's shape without any layer of tokens: what the others are compared with. Needs torch."""

from mambasdk_medical.families.residual_unet.checkpoint import import_residual_unet
from mambasdk_medical.families.residual_unet.config import ResidualUNetConfig
from mambasdk_medical.families.residual_unet.model import ResidualUNet, build

__all__ = ["ResidualUNet", "ResidualUNetConfig", "build", "import_residual_unet"]

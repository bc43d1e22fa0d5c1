"""The configuration of a plain residual U-Net: that of the frame."""

from mambasdk_medical.nn.residual_unet_config import ResidualUNetConfig

__all__ = ["ResidualUNetConfig"]

"""The plain residual U-Net: the frame by itself."""

from __future__ import annotations

from mambasdk_medical.nn.residual_unet import ResidualUNet
from mambasdk_medical.nn.residual_unet_config import ResidualUNetConfig

__all__ = ["ResidualUNet", "build"]


def build(config: ResidualUNetConfig) -> ResidualUNet:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return ResidualUNet(config)

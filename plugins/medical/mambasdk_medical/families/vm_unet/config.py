"""The configuration of a VM-UNet, under upstream's argument names. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mambasdk_medical.nn.vss_config import VSSUNetConfig


@dataclass
class VMUNetConfig(VSSUNetConfig):
    """A VM-UNet; the defaults are those of the ISIC configuration (arXiv 2402.02491). See VSSUNetConfig."""

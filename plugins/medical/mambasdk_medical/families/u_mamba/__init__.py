"""U-Mamba (arXiv 2401.04722): a residual U-Net with Mamba layers on its deepest map or in its encoder. Needs torch."""

from mambasdk_medical.families.u_mamba.checkpoint import import_u_mamba
from mambasdk_medical.families.u_mamba.config import UMambaConfig
from mambasdk_medical.families.u_mamba.model import MambaLayer, UMamba, build

__all__ = ["MambaLayer", "UMamba", "UMambaConfig", "build", "import_u_mamba"]

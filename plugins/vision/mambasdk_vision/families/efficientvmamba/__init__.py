"""EfficientVMamba (arXiv 2403.09977): skip-sampled scans beside convolutions, inverted residuals. Needs torch."""

from mambasdk_vision.families.efficientvmamba.checkpoint import import_efficientvmamba
from mambasdk_vision.families.efficientvmamba.config import EfficientVMambaConfig
from mambasdk_vision.families.efficientvmamba.es2d import ES2D
from mambasdk_vision.families.efficientvmamba.model import EfficientVMambaClassifier, EfficientVMambaFeatures, build
from mambasdk_vision.families.efficientvmamba.routes import atrous_routes

__all__ = [
    "ES2D",
    "EfficientVMambaClassifier",
    "EfficientVMambaConfig",
    "EfficientVMambaFeatures",
    "atrous_routes",
    "build",
    "import_efficientvmamba",
]

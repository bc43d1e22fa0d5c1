"""MSVMamba (arXiv 2405.14174): the scan of a map at two sizes, its blocks, the network, checkpoints. Needs torch."""

from mambasdk_vision.families.msvmamba.checkpoint import import_msvmamba
from mambasdk_vision.families.msvmamba.config import MSVMambaConfig
from mambasdk_vision.families.msvmamba.model import MSVMambaClassifier, MSVMambaFeatures, build
from mambasdk_vision.families.msvmamba.ms2d import MS2D, low_resolution_routes

__all__ = [
    "MS2D",
    "MSVMambaClassifier",
    "MSVMambaConfig",
    "MSVMambaFeatures",
    "build",
    "import_msvmamba",
    "low_resolution_routes",
]

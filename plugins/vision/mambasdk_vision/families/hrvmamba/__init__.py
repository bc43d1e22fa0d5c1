"""HRVMamba (arXiv 2410.03174): parallel branches of four strides with deformable 2-D scans. Needs torch."""

from mambasdk_vision.families.hrvmamba.blocks import DSS2D, DVSSBlock
from mambasdk_vision.families.hrvmamba.checkpoint import import_hrvmamba
from mambasdk_vision.families.hrvmamba.config import HRVMambaConfig
from mambasdk_vision.families.hrvmamba.model import (
    HRVMambaBranches,
    HRVMambaClassifier,
    HRVMambaPyramid,
    build,
)

__all__ = [
    "DSS2D",
    "DVSSBlock",
    "HRVMambaBranches",
    "HRVMambaClassifier",
    "HRVMambaConfig",
    "HRVMambaPyramid",
    "build",
    "import_hrvmamba",
]

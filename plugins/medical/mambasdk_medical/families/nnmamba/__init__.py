"""nnMamba (arXiv 2402.03526): a residual network of volumes whose blocks share Mamba layers. Needs torch."""

from mambasdk_medical.families.nnmamba.checkpoint import import_nnmamba
from mambasdk_medical.families.nnmamba.config import NnMambaConfig
from mambasdk_medical.families.nnmamba.layers import FlippedMambaLayer, mean_over_flips
from mambasdk_medical.families.nnmamba.model import NnMambaClassifier, NnMambaSegmenter, build

__all__ = [
    "FlippedMambaLayer",
    "NnMambaClassifier",
    "NnMambaConfig",
    "NnMambaSegmenter",
    "build",
    "import_nnmamba",
    "mean_over_flips",
]

"""MedMamba (arXiv 2403.03849): a classifier of medical images, half convolution and half scan. Needs torch."""

from mambasdk_medical.families.medmamba.block import SSConvSSM, shuffled
from mambasdk_medical.families.medmamba.checkpoint import import_medmamba
from mambasdk_medical.families.medmamba.config import MedMambaConfig
from mambasdk_medical.families.medmamba.model import MedMambaClassifier, MedMambaFeatures, build

__all__ = [
    "MedMambaClassifier",
    "MedMambaConfig",
    "MedMambaFeatures",
    "SSConvSSM",
    "build",
    "import_medmamba",
    "shuffled",
]

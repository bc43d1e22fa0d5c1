"""VSSD (arXiv 2407.18559): the non-causal state space dual mixer, the network, checkpoints. Needs torch."""

from mambasdk_vision.families.vssd.checkpoint import import_vssd
from mambasdk_vision.families.vssd.config import VSSDConfig
from mambasdk_vision.families.vssd.mixer import VSSDAttention, VSSDMixer
from mambasdk_vision.families.vssd.model import VSSDClassifier, VSSDFeatures, build

__all__ = [
    "VSSDAttention",
    "VSSDClassifier",
    "VSSDConfig",
    "VSSDFeatures",
    "VSSDMixer",
    "build",
    "import_vssd",
]

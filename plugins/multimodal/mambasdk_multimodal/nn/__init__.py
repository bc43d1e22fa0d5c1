"""Layers of the multimodal families. Needs torch."""

from mambasdk_multimodal.nn.mixer import PROJECTIONS, MixtureOfMamba
from mambasdk_multimodal.nn.modalities import check_modality, modality_of
from mambasdk_multimodal.nn.stack import MixtureBlock, MixtureLayer, MixtureModel

__all__ = [
    "PROJECTIONS",
    "MixtureBlock",
    "MixtureLayer",
    "MixtureModel",
    "MixtureOfMamba",
    "check_modality",
    "modality_of",
]

"""Mixture-of-Mamba (arXiv 2501.16295): configuration and model. Needs torch."""

from mambasdk_multimodal.families.mixture_of_mamba.config import MixtureOfMambaConfig
from mambasdk_multimodal.families.mixture_of_mamba.model import MultimodalModel, MultimodalOutput, build

__all__ = ["MixtureOfMambaConfig", "MultimodalModel", "MultimodalOutput", "build"]

"""Hydra (arXiv 2407.09941): configuration, encoder with its heads, checkpoints. Needs torch."""

from mambasdk_language.families.hydra.checkpoint import import_hydra
from mambasdk_language.families.hydra.config import HydraConfig
from mambasdk_language.families.hydra.model import HydraMaskedLM, HydraTextModel, build

__all__ = ["HydraConfig", "HydraMaskedLM", "HydraTextModel", "build", "import_hydra"]

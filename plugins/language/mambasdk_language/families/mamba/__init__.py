"""Mamba (arXiv 2312.00752): configuration, model, checkpoints. Needs torch."""

from mambasdk_language.families.mamba.checkpoint import import_mamba
from mambasdk_language.families.mamba.config import MambaConfig
from mambasdk_language.families.mamba.model import build

__all__ = ["MambaConfig", "build", "import_mamba"]

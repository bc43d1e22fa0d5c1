"""Mamba-2 (arXiv 2405.21060): configuration, model, checkpoints. Needs torch."""

from mambasdk_language.families.mamba2.checkpoint import import_mamba2
from mambasdk_language.families.mamba2.config import Mamba2Config
from mambasdk_language.families.mamba2.model import build

__all__ = ["Mamba2Config", "build", "import_mamba2"]

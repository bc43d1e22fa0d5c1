"""Mamba-3 (arXiv 2603.15569): configuration, model, checkpoints. Needs torch."""

from mambasdk_language.families.mamba3.checkpoint import import_mamba3
from mambasdk_language.families.mamba3.config import Mamba3Config
from mambasdk_language.families.mamba3.model import build

__all__ = ["Mamba3Config", "build", "import_mamba3"]

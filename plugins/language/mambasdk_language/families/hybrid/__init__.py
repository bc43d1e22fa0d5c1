"""Hybrid language models, layers by a pattern: configuration, model, checkpoints. Needs torch."""

from mambasdk_language.families.hybrid.checkpoint import import_hybrid
from mambasdk_language.families.hybrid.config import HybridConfig
from mambasdk_language.families.hybrid.model import build

__all__ = ["HybridConfig", "build", "import_hybrid"]

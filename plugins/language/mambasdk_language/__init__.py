"""Language models for mambasdk. Importing this package loads neither torch nor a model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mambasdk_language.generation import Generation, generate, stream
    from mambasdk_language.model import LanguageModel

__version__ = "0.1.0"
__all__ = ["Generation", "LanguageModel", "__version__", "generate", "stream"]


def __getattr__(name: str) -> Any:
    if name in ("Generation", "generate", "stream"):
        return getattr(importlib.import_module("mambasdk_language.generation"), name)
    if name == "LanguageModel":
        return importlib.import_module("mambasdk_language.model").LanguageModel
    raise AttributeError(f"module 'mambasdk_language' has no attribute {name!r}")

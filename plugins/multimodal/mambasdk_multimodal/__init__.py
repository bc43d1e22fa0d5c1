"""Models of several modalities for mambasdk. Importing this package loads neither torch nor a model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mambasdk_multimodal.upcycling import upcycle

__version__ = "0.1.0"
__all__ = ["__version__", "upcycle"]


def __getattr__(name: str) -> Any:
    if name == "upcycle":
        return importlib.import_module("mambasdk_multimodal.upcycling").upcycle
    raise AttributeError(f"module 'mambasdk_multimodal' has no attribute {name!r}")

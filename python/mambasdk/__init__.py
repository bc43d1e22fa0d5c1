"""mambasdk: compiled kernels, PyTorch modules and a native runtime for state-space models.

Importing this package loads neither torch nor a plugin: every attribute below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mambasdk._version import __version__

if TYPE_CHECKING:
    from mambasdk import cli, command_line, errors, lowering, models, nn, ops, package, plugins, runtime, training
    from mambasdk.errors import MambaSDKError
    from mambasdk.models import create_model, import_checkpoint, list_models
    from mambasdk.package import load, save_package, verify

_SUBMODULES = (
    "cli",
    "command_line",
    "errors",
    "lowering",
    "models",
    "nn",
    "ops",
    "package",
    "plugins",
    "runtime",
    "training",
)
_ATTRIBUTES = {
    "MambaSDKError": "mambasdk.errors",
    "create_model": "mambasdk.models",
    "import_checkpoint": "mambasdk.models",
    "list_models": "mambasdk.models",
    "load": "mambasdk.package",
    "save_package": "mambasdk.package",
    "verify": "mambasdk.package",
}

__all__ = [
    "MambaSDKError",
    "__version__",
    "cli",
    "command_line",
    "create_model",
    "errors",
    "import_checkpoint",
    "list_models",
    "load",
    "lowering",
    "models",
    "nn",
    "ops",
    "package",
    "plugins",
    "runtime",
    "save_package",
    "training",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _ATTRIBUTES:
        value = getattr(importlib.import_module(_ATTRIBUTES[name]), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        module = f"mambasdk.{name}"
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name == module:
                raise AttributeError(f"module 'mambasdk' has no attribute {name!r}") from None
            raise
    raise AttributeError(f"module 'mambasdk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Operations of exported graphs -> how each is written into a native program.

An entry is a function of the graph and the operation's arguments, tensors being `Operand`s:

    @lowers("aten.relu.default")
    def relu(g: Graph, x: Operand) -> Operand:
        return elementwise(g, "relu", x)

Plugins register theirs the same way, for operations of their own or of other libraries.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from mambasdk.errors import InvalidArgumentError

Entry = Callable[..., Any]
_E = TypeVar("_E", bound=Entry)
_ENTRIES: dict[str, Entry] = {}
_loaded: list[bool] = []


def lowers(*targets: str) -> Callable[[_E], _E]:
    """Register a function for operations by their full names, such as "aten.add.Tensor" or "acme.mix.default"."""

    def register(entry: _E) -> _E:
        for target in targets:
            if target in _ENTRIES:
                raise InvalidArgumentError(f"{target} has an entry already", where="lowers")
            _ENTRIES[target] = entry
        return entry

    return register


def find(target: Any) -> Entry | None:
    """The entry of an operation, None where there is none."""
    _load()
    name = f"fused.{target.__name__}" if isinstance(target, FunctionType) else str(target)
    if (entry := _ENTRIES.get(name)) is not None:
        return entry
    return _ENTRIES.get("mambasdk.*") if name.startswith("mambasdk.") else None


def entries() -> list[str]:
    """Names of all operations that have an entry."""
    _load()
    return sorted(_ENTRIES)


def _load() -> None:
    """Import every module of `mambasdk.lowering.aten`, once."""
    if not _loaded:
        _loaded.append(True)
        package = importlib.import_module("mambasdk.lowering.aten")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")

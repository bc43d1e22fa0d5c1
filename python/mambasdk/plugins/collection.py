"""Calls the hooks of one plugin and checks all that they return; nothing of the host changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pluggy

from mambasdk.errors import PluginError
from mambasdk.plugins import hookspecs
from mambasdk.plugins.record import Registrations
from mambasdk.plugins.specs import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec, check_library

_HOOKS: dict[str, type[Any]] = {
    "mambasdk_families": FamilySpec,
    "mambasdk_heads": HeadSpec,
    "mambasdk_processors": ProcessorSpec,
    "mambasdk_commands": CommandSpec,
}


def collect(name: str, plugin: object) -> Registrations:
    """What `plugin`, the module or object of the entry point, registers; raises PluginError where it is malformed."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name)
    manager.check_pending()
    staged = Registrations()
    for (hook, spec_type), table in zip(_HOOKS.items(), staged.tables().values(), strict=True):
        for spec in _items(hook, getattr(manager.hook, hook)()):
            if not isinstance(spec, spec_type):
                raise PluginError("bad item", where=hook, expected=spec_type.__name__, got=repr(spec))
            spec.validate()
            if spec.name in table:
                raise PluginError(f"{spec.name!r} is registered twice", where=hook)
            table[spec.name] = spec
    hook = "mambasdk_native_libraries"
    staged.libraries = [check_library(path) for path in _items(hook, getattr(manager.hook, hook)())]
    models: set[str] = set()
    for model in staged.models():
        if model in models:
            raise PluginError(f"model {model!r} is registered twice", where="mambasdk_families")
        models.add(model)
    return staged


def _items(hook: str, results: list[object]) -> Iterator[object]:
    for result in results:
        if not isinstance(result, (list, tuple)):
            raise PluginError("bad result", where=hook, expected="a list", got=repr(result))
        yield from result

"""The plugin host: finds plugins by entry point, loads each in isolation, and commits its registrations all or none.

A plugin that raises, exits, registers something malformed or takes a name that is already taken is quarantined with its
reason; it never takes the host down. Plugins are loaded in the order of their entry-point names, so the outcome is the
same on every run.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import pluggy

from mambasdk.errors import PluginError, UnknownNameError, closest
from mambasdk.plugins import hookspecs
from mambasdk.plugins.specs import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec, check_library

ALLOW_LIST_VARIABLE = "MAMBASDK_PLUGINS"
SLOW_SECONDS = 0.5

_Spec = TypeVar("_Spec")

_HOOKS: dict[str, type[Any]] = {
    "mambasdk_families": FamilySpec,
    "mambasdk_heads": HeadSpec,
    "mambasdk_processors": ProcessorSpec,
    "mambasdk_commands": CommandSpec,
}


@dataclass
class Registrations:
    """What one plugin, or all good plugins together, registered; keys are names."""

    families: dict[str, FamilySpec] = field(default_factory=dict)
    heads: dict[str, HeadSpec] = field(default_factory=dict)
    processors: dict[str, ProcessorSpec] = field(default_factory=dict)
    commands: dict[str, CommandSpec] = field(default_factory=dict)
    libraries: list[Path] = field(default_factory=list)

    def tables(self) -> dict[str, dict[str, Any]]:
        """Kind of registration -> its table."""
        return {
            "family": self.families,
            "head": self.heads,
            "processor": self.processors,
            "command": self.commands,
        }


@dataclass
class PluginRecord:
    """What became of one entry point."""

    name: str
    value: str
    distribution: str
    version: str
    status: Literal["good", "quarantined", "disabled"] = "good"
    reason: str = ""
    advice: str = ""
    traceback: str = ""
    seconds: float = 0.0
    imported_torch: bool = False
    registrations: Registrations = field(default_factory=Registrations)
    natives_loaded: bool = False

    @property
    def slow(self) -> bool:
        """Whether importing the plugin took longer than SLOW_SECONDS."""
        return self.seconds > SLOW_SECONDS

    def quarantine(self, reason: str, advice: str, trace: str = "") -> None:
        """Take the plugin out of use."""
        self.status, self.reason, self.advice, self.traceback = "quarantined", reason, advice, trace
        self.registrations = Registrations()


class PluginHost:
    """All plugins of this environment. Loading happens in the constructor; `records` tells what became of each."""

    def __init__(self, allow: list[str] | None = None) -> None:
        """allow: names of entry points to load; None reads MAMBASDK_PLUGINS (unset: all, empty: none)."""
        self.records: list[PluginRecord] = []
        self.registrations = Registrations()
        self._owners: dict[tuple[str, str], PluginRecord] = {}
        self._lock = threading.Lock()
        allowed = _allow_list() if allow is None else allow
        for record, entry_point in sorted(self._discover(), key=lambda pair: (pair[0].name, pair[0].distribution)):
            self.records.append(record)
            if record.status == "quarantined":
                continue
            if allowed is not None and record.name not in allowed:
                record.status, record.reason = "disabled", f"not named in {ALLOW_LIST_VARIABLE}"
                record.advice = f"unset {ALLOW_LIST_VARIABLE} or add {record.name} to it"
                continue
            assert entry_point is not None
            self._load(record, entry_point)

    def family(self, name: str) -> FamilySpec:
        """The family `name`; UnknownNameError with suggestions otherwise."""
        return self._find("family", self.registrations.families, name)

    def head(self, name: str) -> HeadSpec:
        """The head `name`; UnknownNameError with suggestions otherwise."""
        return self._find("head", self.registrations.heads, name)

    def processor(self, slot: str, kind: str) -> ProcessorSpec:
        """The processor of `slot` and `kind`; UnknownNameError with suggestions otherwise."""
        return self._find("processor", self.registrations.processors, f"{slot}.{kind}")

    def owner(self, kind: str, name: str) -> PluginRecord:
        """The plugin that registered `name` as a `kind` ("family", "head", "processor", "command")."""
        return self._owners[kind, name]

    def quarantined(self) -> list[PluginRecord]:
        """The plugins that are out of use because something is wrong with them."""
        return [record for record in self.records if record.status == "quarantined"]

    def activate(self, record: PluginRecord) -> None:
        """Load the native libraries of a plugin, once. A library that fails raises PluginError."""
        with self._lock:
            if record.natives_loaded or not record.registrations.libraries:
                return
            core = importlib.import_module("mambasdk._core")
            for path in record.registrations.libraries:
                try:
                    core.load_native_plugin(str(path))
                except Exception as error:
                    raise PluginError(
                        f"native library {path} does not load: {error}",
                        where=f"plugin {record.name}",
                        way_out=f"pip install --force-reinstall {record.distribution}",
                    ) from error
            record.natives_loaded = True

    def _find(self, kind: str, table: dict[str, _Spec], name: str) -> _Spec:
        if name in table:
            return table[name]
        way_out = closest(name, table)
        if broken := self.quarantined():
            names = ", ".join(record.name for record in broken)
            way_out += f" (quarantined plugins: {names}; see `mambasdk doctor`)"
        raise UnknownNameError(f"no {kind} named {name!r}", way_out=way_out)

    def _discover(self) -> Iterator[tuple[PluginRecord, metadata.EntryPoint | None]]:
        seen: set[tuple[str, str, str]] = set()
        for distribution in metadata.distributions():
            try:
                entries = [entry for entry in distribution.entry_points if entry.group == hookspecs.ENTRY_POINT_GROUP]
                if not entries:
                    continue
                name, version = str(distribution.metadata["Name"]), distribution.version
            except Exception as error:
                where = str(getattr(distribution, "_path", "?"))
                record = PluginRecord(Path(where).stem, "", where, "?")
                record.quarantine(f"unreadable metadata: {error}", f"reinstall the package of {where}", _trace(error))
                yield record, None
                continue
            for entry in entries:
                key = (name, entry.name, entry.value)
                if key not in seen:
                    seen.add(key)
                    yield PluginRecord(entry.name, entry.value, name, version), entry

    def _load(self, record: PluginRecord, entry_point: metadata.EntryPoint) -> None:
        torch_before = "torch" in sys.modules
        start = time.perf_counter()
        try:
            staged = _collect(record.name, entry_point.load())
            self._check_duplicates(staged)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may call sys.exit or raise what does not derive from Exception
            record.quarantine(_reason(error), _advice(record, error), _trace(error))
        else:
            self._commit(record, staged)
        record.seconds = time.perf_counter() - start
        record.imported_torch = not torch_before and "torch" in sys.modules

    def _check_duplicates(self, staged: Registrations) -> None:
        for kind, table in staged.tables().items():
            for name in table:
                if owner := self._owners.get((kind, name)):
                    raise PluginError(f"{kind} {name!r} is already registered by plugin {owner.name}")
        for family in staged.families.values():
            for variant in (family.name, *family.variants):
                taken = self._owners.get(("variant", variant))
                if taken is not None:
                    raise PluginError(f"model {variant!r} is already registered by plugin {taken.name}")

    def _commit(self, record: PluginRecord, staged: Registrations) -> None:
        record.registrations = staged
        for (kind, table), target in zip(staged.tables().items(), self.registrations.tables().values(), strict=True):
            target.update(table)
            self._owners.update({(kind, name): record for name in table})
        for family in staged.families.values():
            self._owners.update({("variant", variant): record for variant in (family.name, *family.variants)})
        self.registrations.libraries.extend(staged.libraries)


def _allow_list() -> list[str] | None:
    value = os.environ.get(ALLOW_LIST_VARIABLE)
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def _collect(name: str, plugin: object) -> Registrations:
    """Call every hook of one plugin and check all that it returns; nothing of the host changes."""
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
    for family in staged.families.values():
        for variant in {family.name, *family.variants}:
            if variant in models:
                raise PluginError(f"model {variant!r} is registered twice", where="mambasdk_families")
            models.add(variant)
    return staged


def _items(hook: str, results: list[object]) -> Iterator[object]:
    for result in results:
        if not isinstance(result, (list, tuple)):
            raise PluginError("bad result", where=hook, expected="a list", got=repr(result))
        yield from result


def _reason(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return str(error)
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"


def _advice(record: PluginRecord, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"pip install --force-reinstall {record.distribution} (module {error.name} is missing)"
    if isinstance(error, PluginError) and "already registered" in str(error):
        return f"pip uninstall one of the two, or leave {record.name} out of {ALLOW_LIST_VARIABLE}"
    return f"pip install --upgrade {record.distribution}, or pip uninstall {record.distribution}"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


class _Process:
    """The host of this process, and whether it is being made."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.host: PluginHost | None = None
        self.loading = False


_process = _Process()


def get_host() -> PluginHost:
    """The host of this process; the first call loads the plugins."""
    with _process.lock:
        if _process.loading:
            raise PluginError("a plugin asked for the host's registrations while it was being imported")
        if _process.host is None:
            _process.loading = True
            try:
                _process.host = PluginHost()
            finally:
                _process.loading = False
        return _process.host


def reset_host() -> None:
    """Forget the loaded plugins, so that the next `get_host` looks again (after a pip install in a notebook)."""
    with _process.lock:
        _process.host = None

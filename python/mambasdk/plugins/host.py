"""The plugin host: finds plugins by entry point, loads each in isolation, and commits its registrations all or none.

A plugin that raises, exits, registers something malformed or takes a name that is already taken is quarantined with its
reason; it never takes the host down. Official plugins are loaded first (official.py), then the others in the order of
their entry-point names, so the outcome is the same on every run and no plugin can push an official one out. Native
libraries are loaded when they are first needed (`activate`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from mambasdk.errors import PluginError, UnknownNameError, closest
from mambasdk.plugins import hookspecs
from mambasdk.plugins.collection import collect
from mambasdk.plugins.isolation import DivertedOutput, import_in_a_process
from mambasdk.plugins.native import load_library
from mambasdk.plugins.official import canonical, is_official, is_reserved
from mambasdk.plugins.record import ALLOW_LIST_VARIABLE, PluginRecord, Registrations
from mambasdk.plugins.specs import FamilySpec, HeadSpec, ProcessorSpec

_Spec = TypeVar("_Spec")


class PluginHost:
    """All plugins of this environment. Loading happens in the constructor; `records` tells what became of each."""

    def __init__(self, allow: list[str] | None = None, *, isolated: bool = False) -> None:
        """allow: names of entry points to load; None reads MAMBASDK_PLUGINS (unset: all, empty: none).

        isolated: import each plugin in a process of its own first, and quarantine it when that process dies or hangs
        (`mambasdk doctor` does; it costs a Python start per plugin).
        """
        self.records: list[PluginRecord] = []
        self.registrations = Registrations()
        self._isolated = isolated
        self._owners: dict[tuple[str, str], PluginRecord] = {}
        self._withdrawn: dict[tuple[str, str], PluginRecord] = {}
        self._lock = threading.Lock()
        allowed = allow_list() if allow is None else allow
        for record, entry_point in sorted(self._discover(), key=_order):
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
        """Load the native libraries of a plugin, once.

        A library that is refused, is no library or crashes raises PluginError and quarantines its plugin; the same
        error comes at every later attempt.
        """
        with self._lock:
            if record.status == "quarantined":
                raise _quarantined(record)
            for library in record.libraries:
                if library.description is not None:
                    continue
                try:
                    library.description = load_library(library.path, record.distribution)
                except PluginError as error:
                    advice = error.way_out or ""
                    self._withdraw(record, str(error).removesuffix(f"; {advice}"), advice, _trace(error))
                    raise _quarantined(record) from error

    def activate_all(self) -> None:
        """Load the native libraries of every plugin; a plugin whose library fails is quarantined."""
        for record in self.records:
            if record.status == "good":
                try:
                    self.activate(record)
                except PluginError:
                    continue  # its record says why

    def activate_distributions(self, names: Iterable[str]) -> None:
        """Load the native libraries of the plugins of these distributions (a package's `requires.plugins`).

        A name that is not installed, or that MAMBASDK_PLUGINS leaves out, raises PluginError with what to do.
        """
        for name in names:
            found = [record for record in self.records if canonical(record.distribution) == canonical(name)]
            if not found:
                raise PluginError(f"plugin {name} is not installed", way_out=f"pip install {name}")
            for record in found:
                if record.status == "disabled":
                    raise PluginError(f"plugin {name} is {record.reason}", way_out=record.advice)
                self.activate(record)

    def check_withdrawn(self, kind: str, name: str) -> None:
        """Raise PluginError where `name` ("family", "variant", …) went with a plugin that is quarantined by now."""
        if record := self._withdrawn.get((kind, name)):
            raise _quarantined(record)

    def _find(self, kind: str, table: dict[str, _Spec], name: str) -> _Spec:
        if name in table:
            return table[name]
        self.check_withdrawn(kind, name)
        way_out = closest(name, table)
        if broken := self.quarantined():
            names = ", ".join(record.name for record in broken)
            way_out += f" (quarantined plugins: {names}; see `mambasdk doctor`)"
        raise UnknownNameError(f"no {kind} named {name!r}", way_out=way_out)

    def _discover(self) -> Iterator[tuple[PluginRecord, metadata.EntryPoint | None]]:
        seen: set[tuple[str, str, str]] = set()
        reserved: set[str] = set()
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
            first = canonical(name) not in reserved
            if is_reserved(name):
                reserved.add(canonical(name))
            for entry in entries:
                key = (name, entry.name, entry.value)
                if key not in seen:
                    seen.add(key)
                    official = first and is_official(name, entry.value)
                    yield PluginRecord(entry.name, entry.value, name, version, official), entry

    def _load(self, record: PluginRecord, entry_point: metadata.EntryPoint) -> None:
        if taken := _takes_reserved_name(record):
            record.quarantine(*taken)
            return
        if self._isolated and (death := import_in_a_process(entry_point.value)):
            record.quarantine(
                f"while it is imported, its process {death}",
                f"pip uninstall {record.distribution}, or leave {record.name} out of {ALLOW_LIST_VARIABLE}",
            )
            return
        torch_before = "torch" in sys.modules
        start = time.perf_counter()
        with DivertedOutput() as output:
            try:
                staged = collect(record.name, entry_point.load())
                self._check_duplicates(staged)
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(f"interrupted while plugin {record.name} was imported") from error
            except BaseException as error:  # a plugin may call sys.exit or raise what does not derive from Exception
                record.quarantine(_reason(error), _advice(record, error), _trace(error))
            else:
                self._commit(record, staged)
        record.seconds = time.perf_counter() - start
        record.imported_torch = not torch_before and "torch" in sys.modules
        record.printed = output.printed

    def _check_duplicates(self, staged: Registrations) -> None:
        for kind, table in staged.tables().items():
            for name in table:
                if owner := self._owners.get((kind, name)):
                    raise PluginError(f"{kind} {name!r} is already registered by plugin {owner.name}")
        for variant in staged.models():
            if owner := self._owners.get(("variant", variant)):
                raise PluginError(f"model {variant!r} is already registered by plugin {owner.name}")

    def _commit(self, record: PluginRecord, staged: Registrations) -> None:
        record.take(staged)
        for (kind, table), target in zip(staged.tables().items(), self.registrations.tables().values(), strict=True):
            target.update(table)
            self._owners.update({(kind, name): record for name in table})
        self._owners.update({("variant", variant): record for variant in staged.models()})

    def _withdraw(self, record: PluginRecord, reason: str, advice: str, trace: str) -> None:
        """Quarantine a plugin whose registrations are out already. Readers see the old tables or the new ones."""
        gone = {key for key, owner in self._owners.items() if owner is record}
        self._withdrawn.update(dict.fromkeys(gone, record))
        self._owners = {key: owner for key, owner in self._owners.items() if key not in gone}
        left = Registrations()
        for (kind, table), target in zip(self.registrations.tables().items(), left.tables().values(), strict=True):
            target.update({name: spec for name, spec in table.items() if (kind, name) not in gone})
        self.registrations = left
        record.quarantine(reason, advice, trace)


def allow_list() -> list[str] | None:
    """The names in MAMBASDK_PLUGINS; None where it is not set."""
    value = os.environ.get(ALLOW_LIST_VARIABLE)
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def _order(pair: tuple[PluginRecord, metadata.EntryPoint | None]) -> tuple[bool, str, str]:
    record, _ = pair
    return not record.official, record.name, record.distribution


def _takes_reserved_name(record: PluginRecord) -> tuple[str, str] | None:
    """(reason, advice) for a plugin that goes by the name of an official one without being it."""
    distribution = record.distribution
    if record.official:
        return None
    if is_reserved(distribution):
        reason = f"{distribution} is the name of one of mambasdk's own plugins, which this is not"
        return (
            f"{reason}: its entry point is {record.value}, or another distribution of that name comes first",
            f"find it with `pip show -f {distribution}`, then pip uninstall {distribution}",
        )
    if is_reserved(f"mambasdk-{record.name}"):
        return (
            f"the entry point's name {record.name!r} is reserved for mambasdk-{record.name}",
            f"pip uninstall {distribution}; its author should give the entry point another name",
        )
    return None


def _quarantined(record: PluginRecord) -> PluginError:
    return PluginError(record.reason, where=f"plugin {record.name}", way_out=record.advice)


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


def get_host(*, isolated: bool = False) -> PluginHost:
    """The host of this process; the first call loads the plugins, `isolated` where asked (see PluginHost)."""
    with _process.lock:
        if _process.loading:
            raise PluginError("a plugin asked for the host's registrations while it was being imported")
        if _process.host is None:
            _process.loading = True
            try:
                _process.host = PluginHost(isolated=isolated)
            finally:
                _process.loading = False
        return _process.host


def reset_host() -> None:
    """Forget the loaded plugins, so that the next `get_host` looks again (after a pip install in a notebook)."""
    with _process.lock:
        _process.host = None

"""Whether what a plugin names by import strings is there: tried in a process of its own, which may die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from mambasdk.plugins.record import PluginRecord, Registrations

RESOLVE_SECONDS = 120.0
_MARK = "mambasdk-resolution "
# Resolves the import strings of argv[1:]; prints a JSON object of those that fail, with the reason.
_PROGRAM = """
import importlib.util, json, os, sys
sys.path[:] = [path for path in sys.path if path]
from mambasdk.plugins.specs import resolve
wrong = {}
torch = importlib.util.find_spec("torch")
for path in sys.argv[1:]:
    try:
        if not callable(resolve(path)):
            wrong[path] = "it is nothing that can be called"
    except BaseException as error:
        if torch is not None or not isinstance(error, ImportError) or "torch" not in str(error):  # models need it
            wrong[path] = f"{type(error).__name__}: {error}"
print("\\n" + MARK + json.dumps(wrong), flush=True)
os._exit(0)  # whatever the plugin left running
""".replace("MARK", repr(_MARK))


def broken_imports(records: Sequence[PluginRecord], seconds: float = RESOLVE_SECONDS) -> list[tuple[str, str, str]]:
    """(plugin, what, why) for each config, factory, importer, head, processor and command that cannot be imported."""
    named = [(record.name, what, path) for record in records for what, path in import_strings(record.registrations)]
    if not named:
        return []
    wrong = _unresolved(sorted({path for _, _, path in named}), seconds)
    if isinstance(wrong, str) and len(records) > 1:  # which of them was it?
        return [found for record in records for found in broken_imports([record], seconds)]
    if isinstance(wrong, str):
        return [(records[0].name, "what it registers", wrong)]
    return [(name, what, f"{path}: {wrong[path]}") for name, what, path in named if path in wrong]


def import_strings(registered: Registrations) -> list[tuple[str, str]]:
    """(what it is for, import string) of all that a plugin registered."""
    found: list[tuple[str, str]] = []
    for family in registered.families.values():
        found += [(f"family {family.name}: config", family.config), (f"family {family.name}: factory", family.factory)]
        if family.importer is not None:
            found.append((f"family {family.name}: importer", family.importer))
    found += [(f"head {head.name}", head.implementation) for head in registered.heads.values()]
    found += [(f"processor {spec.name}", spec.factory) for spec in registered.processors.values()]
    found += [(f"command {spec.name}", spec.implementation) for spec in registered.commands.values()]
    return found


def _unresolved(paths: Sequence[str], seconds: float) -> dict[str, str] | str:
    """Import string -> why it fails; or how the process ended that tried."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", _PROGRAM, *paths]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing it does not come back within {seconds:g} s"
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(_MARK):
            answer: dict[str, str] = json.loads(line.removeprefix(_MARK))
            return answer
    return f"a process that imports it ends with exit code {done.returncode}"

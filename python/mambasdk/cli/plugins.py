"""`mambasdk plugins`: what is installed, what each plugin brought, and what was refused and why."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.plugins.host import get_host
from mambasdk.plugins.record import LibraryRecord, PluginRecord

_REGISTERED = ("families", "heads", "processors", "commands")
_NATIVE = ("ops", "kernels", "engines", "processors", "heads")
NONE_INSTALLED = "none is installed; pip install mambasdk-language brings the Mamba language models"


class PluginsCommand:
    """A list of all entry points, the quarantined ones too. Native libraries are loaded, so that they can be listed."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """None."""

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print name, version, status and registrations of each plugin."""
        host = get_host()
        host.activate_all()
        rows = [describe(record) for record in host.records]
        if not args.json:
            for row in rows:
                print(f"{row['name']}  {row['distribution']} {row['version']}  {row['status']}")
                for line in contents(row):
                    print(f"  {line}")
                if row["reason"]:
                    print(f"  {row['reason']}\n  way out: {row['advice']}")
                for remark in row["remarks"]:
                    print(f"  {remark}")
            if not rows:
                print(f"plugins: {NONE_INSTALLED}")
        return {"plugins": rows}


def describe(record: PluginRecord) -> dict[str, Any]:
    """A record as JSON data."""
    registered = record.registrations
    return {
        "name": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "status": record.status,
        "reason": record.reason,
        "advice": record.advice,
        "traceback": record.traceback,
        "import_seconds": round(record.seconds, 4),
        "slow": record.slow,
        "imported_torch": record.imported_torch,
        "printed": record.printed,
        "remarks": [what for what, _ in record.remarks()],
        "families": sorted(registered.families),
        "variants": sorted(registered.models()),
        "heads": sorted(registered.heads),
        "processors": sorted(registered.processors),
        "commands": sorted(registered.commands),
        "libraries": [_library(library) for library in record.libraries],
    }


def contents(row: Mapping[str, Any]) -> list[str]:
    """What a described plugin brought, one line for each kind and library."""
    lines = [f"{kind}: {', '.join(row[kind])}" for kind in _REGISTERED if row[kind]]
    for library in row["libraries"]:
        if not library["loaded"]:
            lines.append(f"native library {library['path']}: not loaded")
            continue
        brought = [f"{kind} {', '.join(library[kind])}" for kind in _NATIVE if library.get(kind)]
        lines.append(f"native library {library['path']}: {'; '.join(brought) or 'nothing registered'}")
    return lines


def _library(library: LibraryRecord) -> dict[str, Any]:
    return {"path": str(library.path), "loaded": library.description is not None, **(library.description or {})}

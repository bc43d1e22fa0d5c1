"""`mambasdk plugins`: what is installed and what it registers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.plugins.host import PluginRecord, get_host


class PluginsCommand:
    """A list of all entry points, the quarantined ones too."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """None."""

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print name, version, status and registrations of each plugin."""
        rows = [describe(record) for record in get_host().records]
        if not args.json:
            for row in rows:
                print(f"{row['name']}  {row['distribution']} {row['version']}  {row['status']}")
                for kind in ("families", "heads", "processors", "commands", "libraries"):
                    if row[kind]:
                        print(f"  {kind}: {', '.join(row[kind])}")
                if row["reason"]:
                    print(f"  {row['reason']}\n  way out: {row['advice']}")
            if not rows:
                print("no plugin is installed; pip install mambasdk-language brings the Mamba language models")
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
        "families": sorted(registered.families),
        "heads": sorted(registered.heads),
        "processors": sorted(registered.processors),
        "commands": sorted(registered.commands),
        "libraries": [str(path) for path in registered.libraries],
    }

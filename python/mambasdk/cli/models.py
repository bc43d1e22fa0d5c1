"""`mambasdk models [PATTERN]`: what can be built."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.models.registry import find_model, list_models


class ModelsCommand:
    """A list; nothing is built and torch is not imported."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """An optional shell pattern."""
        parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, for example 'mamba-*'")

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print name, family and summary of each model."""
        rows = []
        for name in list_models(args.pattern):
            family, variant = find_model(name)
            hub = family.hub.get(variant) if variant else None
            rows.append({"name": name, "family": family.name, "summary": family.summary, "hub": hub})
        if not args.json:
            width = max((len(str(row["name"])) for row in rows), default=0)
            for row in rows:
                print(f"{row['name']:<{width}}  {row['family']}: {row['summary']}")
            if not rows:
                print(f"no model matches {args.pattern!r}; `mambasdk plugins` shows what is installed")
        return {"models": rows}

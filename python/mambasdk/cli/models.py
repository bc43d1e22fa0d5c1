"""`mambasdk models [PATTERN]`: what can be built."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.models.registry import find_model, list_models
from mambasdk.models.sizes import parameter_counts


class ModelsCommand:
    """A list with sizes; a model that was never counted is built without memory, which imports torch."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """An optional shell pattern."""
        parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, for example 'mamba-*'")

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print name, parameters, family and summary of each model; what a family's bare name means is marked."""
        names = list_models(args.pattern)
        counts = parameter_counts(names)
        rows = []
        for name in names:
            family, variant = find_model(name)
            rows.append(
                {
                    "name": name,
                    "family": family.name,
                    "parameters": counts[name],
                    "default": variant is None or variant == family.default_variant,
                    "summary": family.summary,
                    "hub": family.hub.get(variant) if variant else None,
                }
            )
        if not args.json:
            width = max((len(str(row["name"])) for row in rows), default=0)
            for row in rows:
                size = "?" if row["parameters"] is None else short_count(int(str(row["parameters"])))
                mark = f" (the default: what {row['family']!r} means)" if row["default"] else ""
                print(f"{row['name']:<{width}}  {size:>7}  {row['family']}: {row['summary']}{mark}")
            if not rows:
                print(f"no model matches {args.pattern!r}; `mambasdk plugins` shows what is installed")
        return {"models": rows}


def short_count(count: int) -> str:
    """Parameters as "130 M" or "2.8 B"."""
    for divisor, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= divisor:
            value = count / divisor
            return f"{value:.{0 if value >= 100 else 1}f} {unit}"
    return str(count)

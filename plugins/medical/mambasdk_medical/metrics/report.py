"""Scores of many cases: means by label and over labels, as JSON and as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, float]
SHOWN = {"dice": "Dice", "iou": "IoU", "nsd": "NSD", "hd95": "HD95"}


@dataclass
class Report:
    """cases: name of a case -> name of a label -> what `scores` says of it."""

    cases: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def add(self, case: str, found: Mapping[str, Row]) -> None:
        """The scores of one more case."""
        self.cases[case] = {label: dict(row) for label, row in found.items()}

    def by_label(self) -> dict[str, dict[str, float]]:
        """Means over the cases; a value that a case does not define is left out, and NaN where none defines it."""
        labels = list(dict.fromkeys(label for rows in self.cases.values() for label in rows))
        return {label: _means([rows[label] for rows in self.cases.values() if label in rows]) for label in labels}

    def mean(self) -> dict[str, float]:
        """Means over the labels of `by_label`."""
        return _means(list(self.by_label().values()))

    def as_dict(self) -> dict[str, Any]:
        """`mean`, `by_label` and `cases`, with None for what is not defined."""
        return {"mean": _defined(self.mean()), "by_label": _defined(self.by_label()), "cases": _defined(self.cases)}

    def to_json(self) -> str:
        """`as_dict` as text."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)

    def table(self) -> str:
        """A line for each label and one for their mean."""
        rows = {**self.by_label(), "mean": self.mean()} if self.cases else {}
        columns = [name for name in SHOWN if any(name in row for row in rows.values())]
        width = max([len("label"), *map(len, rows)])
        lines = ["  ".join([f"{'label':{width}}", *(f"{SHOWN[name]:>7}" for name in columns)])]
        for label, row in rows.items():
            lines.append("  ".join([f"{label:{width}}", *(_shown(name, row.get(name, math.nan)) for name in columns)]))
        return "\n".join(lines)


def _shown(name: str, value: float) -> str:
    if math.isnan(value):
        return f"{'-':>7}"
    return f"{value:7.2f}" if name == "hd95" else f"{value:7.4f}"


def _means(rows: list[Any]) -> dict[str, float]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    result = {}
    for name in names:
        values = [row[name] for row in rows if name in row and math.isfinite(row[name])]
        result[name] = math.fsum(values) / len(values) if values else math.nan
    return result


def _defined(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _defined(one) for name, one in value.items()}
    return value if math.isfinite(value) else None

"""What a head measured of a package: the same shape for every kind of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Evaluation:
    """The result of a head's `evaluate`.

    metrics: by name, in the order in which they are shown; NaN where one is not defined on the data. data: what was
    measured on, such as {"images": 500}. tables: rows of the same columns by name, such as the scores of each class.
    details: further values for JSON alone. pictures: file names without suffix -> a function that draws a PNG there.
    """

    metrics: dict[str, float]
    data: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Callable[[Path], None]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as JSON data."""
        tables = {name: [dict(row) for row in rows] for name, rows in self.tables.items()}
        return {"metrics": dict(self.metrics), "data": dict(self.data), **tables, **self.details}

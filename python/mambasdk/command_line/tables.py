"""Values and tables as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def format_value(value: Any) -> str:
    """Integers with thousands, floats with four digits, lists joined."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, (list, tuple)):
        return " ".join(map(format_value, value))
    return str(value)


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with a head; numbers to the right. Columns are those of the first row."""
    if not rows:
        return "nothing"
    columns = list(rows[0])
    right = [all(isinstance(row.get(name), (int, float)) for row in rows) for name in columns]
    cells = [columns, *([format_value(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    )

"""Checks of the graph families' configurations."""

from __future__ import annotations

from typing import Any

from mambasdk.errors import InvalidArgumentError


def check_choice(where: str, name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise InvalidArgumentError unless the value is one of those."""
    if value not in known:
        raise InvalidArgumentError(f"bad {name}", where=where, expected=" or ".join(known), got=repr(value))


def check_numbers(where: str, least: int, **values: Any) -> None:
    """Raise InvalidArgumentError unless all are integers of at least `least`."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidArgumentError(
                f"bad {name}", where=where, expected=f"an integer of {least} or more", got=repr(value)
            )

"""The cases of `make bench`: every module here but `case` makes those of a kind of operations."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from .case import Case

__all__ = ["Case", "all_cases"]


def all_cases(only: str = "") -> Iterator[Case]:
    """The cases of operations whose name contains `only`; one at a time, each freed before the next."""
    for module in iter_modules(__path__):
        makers = getattr(import_module(f"{__name__}.{module.name}"), "makers", None)
        for operation, make in makers() if makers else ():
            if only in operation:
                yield make()

"""What the signatures of operations do not say: every module here has a table `FAMILIES`, by the operation's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

from ..case import Family


def _tables() -> Iterator[Mapping[str, Family]]:
    for module in iter_modules(__path__):
        yield import_module(f"{__name__}.{module.name}").FAMILIES


def _joined() -> dict[str, Family]:
    joined: dict[str, Family] = {}
    for table in _tables():
        twice = joined.keys() & table.keys()
        assert not twice, f"{sorted(twice)}: in two modules of {__name__}, expected in one"
        joined |= table
    return joined


FAMILIES = _joined()

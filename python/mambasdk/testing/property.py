"""A property of families: a test function, the families that it applies to, and its cases for one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from mambasdk.testing.subject import Subject


@dataclass(frozen=True)
class Property:
    """arguments: names of the parameters that cases give; others of the function are fixtures.

    cases: subject -> `pytest.param`s; an id begins with the family's name, or is a variant's.
    slow: takes long, and is marked so.
    """

    function: Any
    arguments: str
    applies: Callable[[Subject], bool]
    cases: Callable[[Subject], Iterable[Any]]
    slow: bool = False

    @property
    def name(self) -> str:
        """The test function's name."""
        return str(self.function.__name__)


def always(subject: Subject) -> bool:
    """Every family has it."""
    return True


def once(subject: Subject) -> Iterable[Any]:
    """One case, the family."""
    yield pytest.param(subject, id=str(subject))


def collected(
    properties: list[Property],
    *,
    arguments: str = "subject",
    applies: Callable[[Subject], bool] = always,
    cases: Callable[[Subject], Iterable[Any]] = once,
    slow: bool = False,
) -> Callable[[Any], Any]:
    """Decorator: adds the function to `properties`."""

    def add(function: Any) -> Any:
        properties.append(Property(function, arguments, applies, cases, slow))
        return function

    return add

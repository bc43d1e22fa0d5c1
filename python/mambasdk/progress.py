"""Progress bars on long work: silent in a library, shown where the command line asks for them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

_Item = TypeVar("_Item")
_shown: ContextVar[bool] = ContextVar("mambasdk_progress", default=False)


@contextlib.contextmanager
def show_progress() -> Iterator[None]:
    """Show the bars of `track` on stderr inside this context."""
    token = _shown.set(True)
    try:
        yield
    finally:
        _shown.reset(token)


def track(items: Iterable[_Item], what: str, total: int | None = None) -> Iterable[_Item]:
    """`items`, with a bar named `what` where bars are shown and the work takes longer than half a second."""
    if not _shown.get():
        return items
    tqdm = importlib.import_module("tqdm")
    bar: Iterable[_Item] = tqdm.tqdm(items, desc=what, total=total, delay=0.5, leave=False)
    return bar

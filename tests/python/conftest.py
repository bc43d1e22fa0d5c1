"""Fixtures of the Python package's tests: fake plugins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models of a few thousand parameters: a second thread would only be waited for."""
    try:
        import torch
    except ModuleNotFoundError:  # `make test-python` runs what needs none
        return
    torch.set_num_threads(1)


@pytest.fixture
def plugin_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fakes.Site]:
    """An empty folder to install fake plugins in."""
    monkeypatch.delenv("MAMBASDK_PLUGINS", raising=False)
    with fakes.site(tmp_path / "site") as site:
        yield site


@pytest.fixture
def toy(plugin_site: fakes.Site) -> str:
    """The toy family, registered; gives its name."""
    plugin_site.install_toy()
    return fakes.FAMILY

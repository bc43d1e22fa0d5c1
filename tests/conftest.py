"""Fixtures for all Python tests of the SDK: a package of compiled code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def compiled_package(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A convolutional family's package for the engine aoti, compiled once for all tests (half a minute)."""
    torch = pytest.importorskip("torch")
    import fake_convolution

    import mambasdk

    def make(folder: Path) -> None:
        with fake_convolution.installed(folder / "site"):
            torch.manual_seed(0)
            model = mambasdk.create_model("toyconv-4")
            with torch.no_grad():
                model.norm.running_mean.uniform_(-1, 1)
                model.norm.running_var.uniform_(0.5, 2)
            mambasdk.save_package(model, folder / "conv", engine="aoti")

    return made_once("compiled", make) / "conv"


@pytest.fixture(scope="module")
def convolution_plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The plugin of that family, for as long as a module's tests run."""
    import fake_convolution

    with fake_convolution.installed(tmp_path_factory.mktemp("site")):
        yield

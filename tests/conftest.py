"""Fixtures for all Python tests of the SDK: what is installed, the build it came from, a package of compiled code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def prefix() -> Path:
    """The installed package's folder, which is an installation prefix."""
    spec = find_spec("mambasdk")
    assert spec is not None, "mambasdk is not installed; run `make dev`"
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    assert (folder / "lib").is_dir(), f"{folder} is a source folder, not an installed wheel; run `make dev`"
    return folder


@pytest.fixture(scope="session")
def build_tree() -> Path:
    """The CMake build tree that the wheel came from."""
    folder = Path(os.environ.get("MAMBASDK_BUILD", ROOT / "build" / "release"))
    if not (folder / "CMakeCache.txt").is_file():
        pytest.skip(f"no CMake build at {folder}; MAMBASDK_BUILD names another")
    return folder


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

"""What the ABI tests look at: the installed package, and the build tree that it came from."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
def build_plugin(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds the plugins of a folder of plugins/ against the installed wheel; returns where it installed them."""
    cmake = shutil.which("cmake")
    if cmake is None or (shutil.which("c++") is None and shutil.which("g++") is None):
        pytest.skip("there is no cmake or no C++ compiler")

    def build(name: str) -> Path:
        source = tmp_path_factory.mktemp(name) / "source"
        shutil.copytree(Path(__file__).parent / "plugins" / name, source)
        work, installed = source.with_name("build"), source.with_name("installed")
        mambasdk = f"-Dmambasdk_DIR={prefix}/lib/cmake/mambasdk"
        for command in (
            [cmake, "-S", source, "-B", work, mambasdk, "-DCMAKE_BUILD_TYPE=Release"],
            [cmake, "--build", work],
            [cmake, "--install", work, "--prefix", installed],
        ):
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        return installed

    return build

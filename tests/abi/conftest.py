"""Plugins that the ABI tests build against the installed package."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


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

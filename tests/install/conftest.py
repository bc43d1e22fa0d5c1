"""What the installation tests look at beside the installed package: the wheel, and a small model package."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel that `make dev` built."""
    wheels = sorted((ROOT / "build" / "wheels").glob("mambasdk-*.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        pytest.skip("no wheel in build/wheels; `make dev` builds one")
    return wheels[-1]


@pytest.fixture(scope="session")
def build_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, Path], Path]:
    """A function (source folder, mambasdk_DIR) -> build folder: configures and builds a CMake consumer."""

    def build(source: Path, cmake_dir: Path) -> Path:
        folder = tmp_path_factory.mktemp(source.name)
        cmake = shutil.which("cmake")
        assert cmake is not None, "cmake is not on PATH"
        for command in (
            [cmake, "-S", str(source), "-B", str(folder), f"-Dmambasdk_DIR={cmake_dir}", "-DCMAKE_BUILD_TYPE=Release"],
            [cmake, "--build", str(folder)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        return folder

    return build


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level Mamba with random weights, as a package."""
    torch = pytest.importorskip("torch")
    import mambasdk

    torch.manual_seed(0)
    model = mambasdk.create_model("mamba", d_model=64, n_layer=2, vocab_size=256)
    folder = tmp_path_factory.mktemp("packages") / "tiny"
    mambasdk.save_package(model, folder)
    return folder
